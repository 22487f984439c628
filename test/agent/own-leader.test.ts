// A manager's own node and its leader in one process: a session as over the network, without it.
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { Readable } from "node:stream";
import { text } from "node:stream/consumers";
import test, { type ExecutionContext } from "ava";
import { OwnLeader } from "../../src/agent/own-leader.ts";
import { NODE_KINDS, type Node } from "../../src/cluster/schema.ts";
import { stateToJson } from "../../src/cluster/state.ts";
import { PeerCalls } from "../../src/leader/peer-calls.ts";
import { UnreachableError } from "../../src/lib/http.ts";
import { silentLog } from "../../src/lib/log.ts";
import { LeaderCalls } from "../../src/session/leader-calls.ts";
import { Session } from "../../src/session/session.ts";
import type { Transport } from "../../src/session/transport.ts";
import type { Subject } from "../../src/trust/certificates.ts";
import { Cluster } from "../leader/cluster-fixture.ts";
import { identityOf } from "../leader/fake-node.ts";
import { temporaryDirectory } from "../temporary.ts";

const OWN = "192.0.2.11:2377";
const WORKLOAD = { runtime: "process" as const, command: ["true"] };

/** A network on which nothing answers; it keeps what was asked of it. */
function deadNetwork() {
  const calls: string[] = [];
  const lost = (call: string) => async (manager: string) => {
    calls.push(`${call} ${manager}`);
    throw new UnreachableError("ECONNREFUSED");
  };
  const network: Transport = {
    leads: lost("leads"),
    open: (manager) => ({ [Symbol.asyncIterator]: () => ({ next: () => lost("open")(manager) }) }),
    report: lost("report"),
    beats: (manager) => ({ tell: () => calls.push(`beat ${manager}`) === 0, end: () => {} }),
    execute: lost("execute"),
    waitApplied: lost("waitApplied"),
    readLog: lost("readLog"),
    bringLog: lost("bringLog"),
    refuseLog: lost("refuseLog"),
  };
  return { network, calls };
}

/** The manager's node, as its certificate says. */
function subjectIn({ leader }: Cluster): Subject {
  const [{ id, name }] = [...leader.state.nodes.values()] as [Node];
  return { kind: "node", clusterId: leader.state.cluster!.id, id, name, role: "manager" };
}

function callsOf({ leader, clock }: Cluster): PeerCalls {
  return new PeerCalls({ leader, clock, log: silentLog });
}

async function setUp(t: ExecutionContext) {
  const cluster = await Cluster.start(0);
  const { network, calls: lost } = deadNetwork();
  const transport = new OwnLeader(network, subjectIn(cluster));
  transport.begin(OWN, callsOf(cluster));
  const snapshotPath = join(temporaryDirectory("own-leader"), "snapshot.json");
  const { clock } = cluster;
  const managers = [OWN, "192.0.2.12:2377"];
  const session = new Session({
    ...{ snapshotPath, clock, managers, transport },
    identity: identityOf(1),
    log: silentLog,
  });
  const calls = new LeaderCalls({ session, transport, clock });
  session.onChanges(() => session.reportApplied(session.live.revision));
  session.statusReports.complete();
  await session.start();
  t.teardown(async () => {
    const stopped = session.stop();
    await clock.advance(10_000);
    await stopped;
    await rm(snapshotPath, { force: true });
  });
  for (let i = 0; i < 100 && !session.connected; i++) await clock.advance(1);
  return { cluster, clock, session, calls, lost };
}

test("a manager's node has the state, the changes and the barrier of its own leader without the network", async (t) => {
  const { cluster, clock, session, calls, lost } = await setUp(t);
  t.true(session.connected);
  for (let i = 0; i < 3; i++) {
    const { revision } = await calls.execute({
      type: "service.create",
      name: `s${i}`,
      workload: WORKLOAD,
      replicas: 0,
    });
    t.is(session.live.revision, revision, "it reads what it wrote");
  }
  const settled = calls.waitApplied(session.live.revision, 5000);
  await clock.advance(100);
  await settled;
  const [own, leaders] = [stateToJson(session.live), stateToJson(cluster.leader.state)];
  for (const kind of NODE_KINDS) t.deepEqual(own[kind], leaders[kind]);
  await t.throwsAsync(calls.execute({ type: "service.remove", name: "none" }), { message: /none/ });
  await clock.advance(60_000);
  t.true(session.connected, "beats and reports go the same way");
  t.deepEqual(lost, []);
});

test("a log of the manager's own node comes through its leader, and a refusal does", async (t) => {
  const { cluster, clock, session, calls } = await setUp(t);
  await calls.execute({ type: "service.create", name: "s", workload: WORKLOAD, replicas: 2 });
  await clock.advance(100);
  const [task, other] = [...cluster.leader.state.tasks.values()];
  session.ownLogs.serve(async (id) => {
    if (id !== task!.id) throw new Error("there is no such file");
    return Readable.from([Buffer.from("one\n"), Buffer.from("two\n")]);
  });
  const query = { follow: false, tail: null, since: null };
  t.is(await text(await calls.readLog(task!.id, query)), "one\ntwo\n");
  await t.throwsAsync(calls.readLog(other!.id, query), { message: /there is no such file/ });
});

test("when its leader leads no longer, the node goes to the other managers", async (t) => {
  const { cluster, clock, session, lost } = await setUp(t);
  await cluster.leader.stop();
  await clock.advance(10_000);
  t.false(session.connected);
  t.true(lost.includes("leads 192.0.2.12:2377"));
  t.false(lost.includes(`leads ${OWN}`));
  t.regex(session.problem!, /this manager is stopping/);
});

test("a leader of another cluster takes no command of this one's", async (t) => {
  const { cluster } = await setUp(t);
  const transport = new OwnLeader(deadNetwork().network, subjectIn(cluster));
  const command = { type: "network.create", name: "web" } as const;
  await t.throwsAsync(transport.execute(OWN, "another", command), { instanceOf: UnreachableError });
  transport.begin(OWN, callsOf(cluster));
  await t.throwsAsync(transport.execute(OWN, "another", command), { message: /leads another cluster/ });
  await t.throwsAsync(transport.waitApplied(OWN, "another", 1, 0), { message: /leads another cluster/ });
  await t.throwsAsync(transport.execute("192.0.2.12:2377", "another", command), { instanceOf: UnreachableError });
});
