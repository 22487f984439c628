// What a leader asks other managers ends with its leading: it is not kept by one that does not answer.
import { once } from "node:events";
import { Agent } from "node:http";
import type { Agent as SecureAgent } from "node:https";
import { type AddressInfo, createServer } from "node:net";
import test from "ava";
import { ManagerCalls } from "../../src/agent/manager-calls.ts";

test("questions to a manager that is silent end when their leader leads no longer", async (t) => {
  const server = createServer();
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.teardown(() => server.close());
  const silent = `127.0.0.1:${(server.address() as AddressInfo).port}`;
  const calls = new ManagerCalls({ agent: new Agent() as SecureAgent }); // without TLS no handshake keeps them
  const over = new AbortController();
  const member = calls.member(silent, over.signal);
  const questions = [
    () => member.check(),
    () => member.condition(),
    () => calls.takeTrust(silent, { trusts: [], signer: null }, over.signal),
  ];
  const asked: Promise<unknown>[] = [];
  for (const ask of questions) {
    const reached = once(server, "connection");
    asked.push(ask());
    const [socket] = await reached;
    t.teardown(() => socket.destroy());
  }
  over.abort();
  for (const { status } of await Promise.allSettled(asked)) t.is(status, "rejected");
  await t.throwsAsync(calls.member(silent, over.signal).condition());
});
