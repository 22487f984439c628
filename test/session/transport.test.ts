// The leader's stream over HTTP: lines as they come, however they are cut into pieces.
import { Agent, createServer, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import test, { type ExecutionContext } from "ava";
import { transportOver } from "../../src/session/transport.ts";
import { identityOf } from "../leader/fake-node.ts";
import { waitFor } from "../system/command.ts";

/** What a node reads of a stream that `write` writes. */
async function read(
  t: ExecutionContext,
  write: (response: ServerResponse, heard: () => number) => Promise<void> | void,
): Promise<{ lines: unknown[]; error: Error | undefined; heard: number }> {
  let heard = 0;
  const server = createServer((_, response) => {
    response.writeHead(200);
    response.flushHeaders();
    void write(response, () => heard);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.teardown(() => server.close());
  const { port } = server.address() as AddressInfo;
  const request = { ...identityOf(1), known: null };
  const { signal } = new AbortController();
  const lines: unknown[] = [];
  const agent = new Agent({ keepAlive: true });
  t.teardown(() => agent.destroy());
  const stream = transportOver({ agent }).open(`127.0.0.1:${port}`, request, signal, () => {
    heard++;
  });
  try {
    for await (const line of stream) lines.push(line);
    return { lines, error: undefined, heard };
  } catch (error) {
    return { lines, error: error as Error, heard };
  } finally {
    server.closeAllConnections();
  }
}

test("lines come whole, also those that are cut within a character, and each piece is heard", async (t) => {
  const expected = [{ name: "µ" }, { text: "\u2028 \r\n\u0085" }, { n: 1 }];
  const bytes = Buffer.from(expected.map((line) => `${JSON.stringify(line)}\n`).join(""));
  const { lines, error, heard } = await read(t, async (response, heard) => {
    for (const byte of bytes) {
      const before = heard();
      response.write(Buffer.from([byte]));
      await waitFor(() => heard() > before, { what: "the byte to be heard" });
    }
    response.end();
  });
  t.deepEqual([lines, error], [expected, undefined]);
  t.true(heard >= bytes.length);
});

test("a line that is no JSON ends the stream", async (t) => {
  const { lines, error } = await read(t, (response) => void response.end('{"a":1}\n{"b":\n{"c":1}\n'));
  t.deepEqual(lines, [{ a: 1 }]);
  t.true(error instanceof SyntaxError);
});

test("a stream that breaks says so, after the lines that came", async (t) => {
  const { lines, error } = await read(t, async (response, heard) => {
    response.write('{"a":1}\n{"b"');
    await waitFor(() => heard() > 0, { what: "the lines to be heard" });
    response.destroy();
  });
  t.deepEqual(lines, [{ a: 1 }]);
  t.truthy(error);
});
