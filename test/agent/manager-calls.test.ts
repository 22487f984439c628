// What a leader asks other managers ends with its leading: it is not kept by one that does not answer.
import { once } from "node:events";
import { Agent } from "node:http";
import type { Agent as SecureAgent } from "node:https";
import { type AddressInfo, createServer, type Server } from "node:net";
import test, { type ExecutionContext } from "ava";
import { ManagerCalls } from "../../src/agent/manager-calls.ts";

/** A manager that takes connections and never answers. */
async function silentManager(t: ExecutionContext): Promise<{ server: Server; silent: string; calls: ManagerCalls }> {
  const server = createServer((socket) => t.teardown(() => socket.destroy()));
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.teardown(() => server.close());
  const silent = `127.0.0.1:${(server.address() as AddressInfo).port}`;
  const calls = new ManagerCalls({ agent: new Agent() as SecureAgent }); // without TLS no handshake keeps them
  return { server, silent, calls };
}

const NEVER = new AbortController().signal;

test("questions to a manager that is silent end when their leader leads no longer", async (t) => {
  const { server, silent, calls } = await silentManager(t);
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
    await reached;
  }
  over.abort();
  for (const { status } of await Promise.allSettled(asked)) t.is(status, "rejected");
  await t.throwsAsync(calls.member(silent, over.signal).condition());
});

test("the condition of a silent manager is given up before a command that waits for it", async (t) => {
  const { silent, calls } = await silentManager(t);
  const over = new AbortController();
  const asked = calls.report(silent, undefined, over.signal); // for as long as a command may take
  const condition = calls.member(silent, NEVER).condition();
  const first = await Promise.race([asked.catch(() => "the command"), condition.catch(() => "its condition")]);
  t.is(first, "its condition");
  over.abort();
  await t.throwsAsync(asked);
});
