// What a node says most often, that it lives and what it has in force, goes up one request as lines, and not as reports.
import test, { type ExecutionContext } from "ava";
import type { Report } from "../../src/cluster/protocol.ts";
import type { TaskStatus } from "../../src/cluster/schema.ts";
import { Reporter } from "../../src/session/reporter.ts";
import { VirtualClock } from "../fakes/virtual-clock.ts";
import { deafSink, identityOf } from "../leader/fake-node.ts";
import { SecureCluster } from "../leader/secure-cluster.ts";
import { waitFor } from "../system/command.ts";

const BEAT_MS = 3000;

const running = (taskId: string): TaskStatus => ({
  ...{ taskId, nodeId: "n", state: "running", since: 0 },
  ...{ error: null, exitCode: null, message: null, restarts: 0 },
});

function setUp() {
  const clock = new VirtualClock();
  const reporter = new Reporter(clock);
  const reports: Report[] = [];
  const told: (number | "end")[] = [];
  let takesBeats = true;
  const link = {
    send: async (report: Report) => void reports.push(report),
    beats: {
      tell: (applied: number) => {
        if (takesBeats) told.push(applied);
        return takesBeats;
      },
      end: () => void told.push("end"),
    },
    beatMs: () => BEAT_MS,
    awaited: () => Number.POSITIVE_INFINITY,
    failed: () => {},
  };
  const breakBeats = () => {
    takesBeats = false;
    reporter.retell();
  };
  return { clock, reporter, link, reports, told, breakBeats };
}

test("once the leader has all, beats say what is in force and that the node lives; statuses go as reports", async (t) => {
  const { clock, reporter, link, reports, told } = setUp();
  reporter.attach(link);
  reporter.put(running("a"));
  reporter.complete();
  reporter.setApplied(7);
  await clock.advance(100);
  t.is(reports.at(-1)!.statuses.length, 1);
  const before = reports.length;
  told.length = 0;
  reporter.setApplied(8);
  await clock.advance(10);
  reporter.setApplied(9);
  reporter.setApplied(10);
  await clock.advance(20);
  t.deepEqual(told, [8, 10], "one beat says it of several revisions");
  await clock.advance(3 * BEAT_MS);
  t.deepEqual(told, [8, 10, 10, 10, 10]);
  t.is(reports.length, before);
  reporter.put(running("b"));
  await clock.advance(0);
  t.deepEqual([reports.length, reports.at(-1)!.applied], [before + 1, 10]);
  reporter.detach();
  t.is(told.at(-1), "end");
});

test("when beats break, reports say what they may not have said, and go on", async (t) => {
  const { clock, reporter, link, reports, breakBeats } = setUp();
  reporter.attach(link);
  reporter.complete();
  await clock.advance(0);
  reporter.setApplied(5);
  await clock.advance(100);
  reports.length = 0;
  breakBeats();
  await clock.advance(100);
  t.deepEqual(
    reports.map(({ applied }) => applied),
    [5],
  );
  await clock.advance(2 * BEAT_MS);
  t.is(reports.length, 3);
});

/** A cluster with a second node, and its session. */
async function joined(t: ExecutionContext) {
  const cluster = await SecureCluster.start();
  t.teardown(() => cluster.close());
  const { manager, leader } = cluster;
  const { id, credentials } = await cluster.join(identityOf(2));
  const transport = manager.transport(credentials);
  const request = { ...identityOf(2), protocol: 1 };
  const sessionId = await leader.sessions.open({ id, from: null }, request, deafSink);
  let lost = 0;
  const beats = transport.beats(manager.address, sessionId, () => lost++);
  t.teardown(() => beats.end());
  const { revision } = leader.state;
  const isBehind = async (): Promise<boolean> => (await leader.waitApplied(revision, 0)).includes("node2");
  const isLost = (): Promise<true | undefined> => waitFor(() => (lost > 0 ? true : undefined), { what: "lost beats" });
  return {
    ...{ manager, leader, credentials, transport, sessionId, beats, revision, isBehind, isLost },
    losses: () => lost,
  };
}

test("the leader hears of beats over TLS, also after the node has got a new certificate", async (t) => {
  const { manager, leader, credentials, beats, revision, isBehind, losses } = await joined(t);
  t.true(await isBehind());
  t.true(beats.tell(revision));
  await waitFor(async () => ((await isBehind()) ? undefined : true), { what: "the beat to be heard" });
  const renewed = await manager.credentialsOf([...leader.state.nodes.values()].find(({ name }) => name === "node2")!);
  const { certificate, key } = renewed;
  credentials.replace({ certificate, key });
  const { revision: next } = await leader.execute({ type: "network.create", name: "another" });
  t.true(beats.tell(next));
  await waitFor(async () => ((await leader.waitApplied(next, 0)).includes("node2") ? undefined : true), {
    what: "the beat on the new connection to be heard",
  });
  t.is(losses(), 0);
});

test("beats of a session that is over, or of another node's, are lost once", async (t) => {
  const { manager, leader, sessionId, beats, revision, isLost, losses } = await joined(t);
  const [first] = [...leader.state.nodes.values()];
  const others = manager.transport(await manager.credentialsOf(first!));
  let othersLost = 0;
  const stolen = others.beats(manager.address, sessionId, () => othersLost++);
  stolen.tell(revision);
  await waitFor(() => (othersLost > 0 ? true : undefined), { what: "the other node's beats to be refused" });
  t.false(stolen.tell(revision));
  leader.sessions.close(sessionId);
  beats.tell(revision);
  await isLost();
  t.false(beats.tell(revision));
  t.is(losses(), 1);
});

test("what is no beat is refused in words", async (t) => {
  const { manager, credentials, sessionId } = await joined(t);
  const path = `/v1/sessions/${sessionId}/beats`;
  const { status, body } = await manager.ask(credentials, "POST", path, { applied: 7 });
  t.deepEqual([status, body.error], [400, "this call takes bytes (application/octet-stream), and no JSON"]);
});
