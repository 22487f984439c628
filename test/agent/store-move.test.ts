// What keeps the state from moving to etcd, as an operator reads it, and what `--force` changes about that.
import test, { type ExecutionContext } from "ava";
import type { LeadingManager } from "../../src/agent/member-agents.ts";
import { StoreMove } from "../../src/agent/store-move.ts";
import { type EtcdCheck, syncVerdict } from "../../src/leader/etcd-checks.ts";
import { UserError } from "../../src/lib/errors.ts";
import { silentLog } from "../../src/lib/log.ts";

const SLOW = syncVerdict("/var/lib/overlayd/etcd", [900, 800]);
const FULL: EtcdCheck = { verdict: "refused", text: "only 1 MiB free" };

/** The move of a leader with two other managers, whose machines answer `checks`. It ends at its export, which fails. */
function moveWith(checks: Record<string, () => Promise<EtcdCheck[]>>): (force: boolean) => Promise<string[]> {
  const rows = Object.keys(checks).map((name) => ({ id: name, name, peerUrl: `https://${name}:2380`, isReady: true }));
  const agentOf = (id: string) => ({ check: checks[id], remove: async () => {} });
  const options = {
    config: { cluster: { etcd: {} } },
    calls: { member: (id: string) => agentOf(id) },
    exports: { write: async () => Promise.reject(new Error("the export began")) },
    log: silentLog,
  };
  const nodes = new Map(rows.map(({ id }) => [id, { advertise: { address: id, port: 0 } }]));
  const all = {
    ...{ options, leader: { state: { nodes } }, file: {}, signal: new AbortController().signal },
    manager: { member: { name: "own", remove: async () => {} } },
  };
  options.calls.member = (address) => agentOf(address.slice(0, -":0".length));
  const move = new StoreMove(all as unknown as LeadingManager & ConstructorParameters<typeof StoreMove>[0]);
  return (force) => move.run(rows, { force });
}

async function refusal(t: ExecutionContext, move: Promise<unknown>): Promise<string> {
  return (await t.throwsAsync(move, { instanceOf: UserError }))!.message;
}

test("a disk that is too slow is refused, and the refusal says what moves the state all the same", async (t) => {
  const move = moveWith({ b: async () => [SLOW], c: async () => [] });
  t.is(
    await refusal(t, move(false)),
    "the state does not move to etcd yet: b: a durable write to /var/lib/overlayd/etcd takes up to 800 ms: etcd would lose its leader again and again; 'overlayctl cluster move --force' moves it all the same",
  );
  t.regex(await refusal(t, move(true)), /and the store is as it was: the export began$/);
});

test("no force helps where there is no room, or no answer, and it is not offered", async (t) => {
  const silent = () => Promise.reject(new UserError(503, "it does not answer"));
  const move = moveWith({ b: async () => [SLOW, FULL], c: silent });
  const slow = `b: ${SLOW.text}; only 1 MiB free`;
  t.is(await refusal(t, move(false)), `the state does not move to etcd yet: ${slow}; c: it does not answer`);
  t.is(await refusal(t, move(true)), "the state does not move to etcd yet: b: only 1 MiB free; c: it does not answer");
});
