import { createServer } from "node:net";
import test from "ava";
import { hasListener, isListening } from "../../src/runtime/listening.ts";

const TABLE = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:23F0 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0 100 0 0 10 0
   1: 0100007F:0050 0100007F:A001 01 00000000:00000000 00:00000000 00000000     0        0 2 1 0 20 4 30 10 -1
`;

for (const [port, expected, name] of [
  [9200, true, "a listening socket counts"],
  [80, false, "a connection of that port does not"],
  [9201, false, "a port that nobody has does not"],
] as const) {
  test(name, (t) => t.is(hasListener(TABLE, port), expected));
}

test("a real socket is found, and is gone when it is closed", async (t) => {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as { port: number };
  t.true(await isListening(process.pid, [port]));
  await new Promise((resolve) => server.close(resolve));
  t.false(await isListening(process.pid, [port]));
});

test("a process that is gone listens on nothing", async (t) => t.false(await isListening(2 ** 22 + 1, [80])));
