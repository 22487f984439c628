// Where a manager is to answer, and cannot.
import { once } from "node:events";
import { type AddressInfo, createServer } from "node:net";
import test from "ava";
import { CannotListenError, onceFree, requireAskedListen, requireListen } from "../../src/agent/listening.ts";

test("an address that can be had is free afterwards, too", async (t) => {
  const server = createServer().listen({ host: "127.0.0.1", port: 0 });
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  await requireListen({ address: "127.0.0.1", port });
  await t.notThrowsAsync(requireListen({ address: "127.0.0.1", port }));
});

test("a port that another process has is said to be that, and is waited for", async (t) => {
  const server = createServer().listen({ host: "127.0.0.1", port: 0 });
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  const listen = { address: "127.0.0.1", port };
  const { message } = await t.throwsAsync(requireListen(listen), { instanceOf: CannotListenError });
  t.is(
    message,
    `a manager cannot answer at 127.0.0.1:${port}: another process has that port ('ss -ltnp' shows it) (free it, or name another in 'cluster.listen' and restart overlayd)`,
  );
  const isFree = new Promise<void>((resolve) => {
    const watch = onceFree(listen, resolve);
    t.teardown(() => watch.stop());
  });
  server.close();
  const alive = setInterval(() => {}, 1000); // the watch alone keeps no process
  await isFree;
  clearInterval(alive);
  t.pass();
});

test("an address of no link is refused to an operator before anything is changed", async (t) => {
  const error = await t.throwsAsync(requireAskedListen({ address: "192.0.2.254", port: 2377 }));
  t.is(
    error.message,
    "this node cannot answer at 192.0.2.254:2377: no link of this machine has that address; give another with '--listen', '--advertise' or 'cluster.listen', or free this one",
  );
});
