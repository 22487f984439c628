// Managers with a state that does not follow that of the nodes: an empty disk, a backup, another cluster's store.
import test, { type ExecutionContext } from "ava";
import { NodeIdentity, type StreamMessage } from "../../src/cluster/protocol.ts";
import { stateToJson } from "../../src/cluster/state.ts";
import { NodeSessions } from "../../src/leader/node-sessions.ts";
import { CannotLeadError } from "../../src/leader/store.ts";
import { silentLog } from "../../src/lib/log.ts";
import { readSnapshot } from "../../src/session/snapshot-file.ts";
import { joining } from "../fakes/founding.ts";
import { MemoryStore } from "../fakes/memory-store.ts";
import { putSnapshot } from "../fakes/snapshot-on-disk.ts";
import { waitFor } from "../system/command.ts";
import type { SimulatedNode } from "./simulated-node.ts";
import { createSearch, World } from "./world.ts";

/** The nodes' snapshots on disk, once all that they were told is there: that takes some seconds, and writing takes real time. */
async function onDisk({ nodes, clock }: World): Promise<unknown> {
  await clock.advance(5000);
  const read = async ({ session, snapshotPath }: SimulatedNode): Promise<object | false> => {
    const state = (await readSnapshot(snapshotPath, silentLog))?.state;
    return state?.revision === session.state!.revision && stateToJson(state);
  };
  return Promise.all(nodes.map((node) => waitFor(() => read(node), { what: "the snapshot on disk" })));
}

/** The nodes have no leader for two minutes, though one answers, and all is as it was. */
async function goesOnAlone(t: ExecutionContext, world: World, reason: RegExp): Promise<void> {
  const before = await onDisk(world);
  const running = world.nodes.map((node) => [...node.running]);
  await world.clock.advance(120_000);
  t.deepEqual(
    world.nodes.map((node) => [...node.running]),
    running,
  );
  t.deepEqual(await onDisk(world), before);
  for (const { session } of world.nodes) {
    t.false(session.connected);
    t.regex(session.problem ?? "", reason);
  }
}

test("a manager with an empty disk ends no task, takes no command of the old cluster, and gets its nodes back with its store", async (t) => {
  const world = await World.start();
  await createSearch(world);
  const { store } = world;
  await world.stopLeader();
  world.store = new MemoryStore();
  await world.lead();
  await goesOnAlone(t, world, /192\.0\.2\.11:2377: it leads another cluster .* 'overlayctl leave'/);
  t.is(world.leader!.state.nodes.size, 1, "its own first manager");
  const refused = world.during(world.nodes[1]!.calls.execute({ type: "network.create", name: "web" }));
  await t.throwsAsync(refused, { message: /^no leader answers \(.*another cluster/ });
  await world.stopLeader();
  world.store = store;
  await world.lead();
  await world.until("all are back", () => world.nodes.every(({ session }) => session.connected));
  t.deepEqual(world.spread(), [1, 1, 1]);
  await world.end();
});

test("nodes do not rely on the leader to refuse them", async (t) => {
  const world = await World.start();
  await createSearch(world);
  await world.stopLeader();
  world.store = new MemoryStore();
  await world.lead();
  // A leader that does not look at what a node follows, and has rows for all nodes.
  const leader = world.leader!;
  const { sessions } = leader;
  const open: typeof sessions.open = async (peer, request, sink) => {
    const { id } = await leader.admit(joining(NodeIdentity.parse(request)));
    return NodeSessions.prototype.open.call(sessions, { ...peer, id }, request, sink);
  };
  sessions.open = (peer, { known: _, ...request }, sink) => open(peer, request, sink);
  await goesOnAlone(t, world, /another cluster/);
  sessions.open = (peer, { known: _, ...request }, sink) => {
    const bare = (line: Buffer) => {
      const message = JSON.parse(line.toString()) as StreamMessage;
      sink.send(
        message.type === "session" ? Buffer.from(`${JSON.stringify({ ...message, state: undefined })}\n`) : line,
      );
    };
    return open(peer, request, { ...sink, send: bare });
  };
  await goesOnAlone(t, world, /another cluster/);
  await world.end();
});

test("a manager with a backup of the store is refused, and accepted with a new epoch", async (t) => {
  const world = await World.start();
  await createSearch(world);
  await world.until("all is in force", () => world.nodes.every(({ running }) => running.size === 1));
  const backup = world.store.copy();
  const secondBackup = world.store.copy();
  await world.during(world.nodes[1]!.calls.execute({ type: "service.scale", name: "search", replicas: 6 }));
  await world.until("all run", () => world.spread().join() === "2,2,2");
  await world.clock.advance(30_000);
  await world.stopLeader();
  world.store = backup;
  await world.lead();
  await goesOnAlone(t, world, /its state is older than that of this node .* 'overlayd --new-epoch'/);
  await world.stopLeader();
  await world.lead({ newEpoch: true });
  await world.until("all take it", () => world.spread().join() === "1,1,1");
  t.true(world.nodes.every(({ session }) => session.connected));
  // The same backup once more knows nothing of the first new epoch.
  await world.stopLeader();
  await world.clock.advance(1000);
  world.store = secondBackup;
  await world.lead({ newEpoch: true });
  await world.until("all take that too", () => world.nodes.every(({ session }) => session.connected));
  await world.end();
});

test("stores and snapshots from before clusters had ids are of one cluster, and of no other", async (t) => {
  const world = await World.start();
  await createSearch(world);
  await world.stopLeader();
  for (const node of world.nodes) {
    await node.stop();
    const { nodeId, state } = (await readSnapshot(node.snapshotPath, silentLog))!;
    state.cluster = null;
    await putSnapshot(node.snapshotPath, nodeId, state);
  }
  const { store } = world;
  store.forgetIdentity();
  for (const node of world.nodes) await node.start();
  world.store = new MemoryStore();
  await world.lead();
  await goesOnAlone(t, world, /another cluster/);
  await world.stopLeader();
  world.store = store;
  await world.lead();
  await world.until("all are back", () => world.nodes.every(({ session }) => session.connected));
  t.deepEqual(world.spread(), [1, 1, 1]);
  await world.end();
});

test("a manager does not lead a store that is not its own node's", async (t) => {
  const world = await World.start();
  const { cluster, revision } = world.leader!.state;
  const nodeVersion = { ...cluster!, revision };
  const backup = world.store;
  await world.stopLeader();
  world.store = new MemoryStore();
  const isEmpty = { instanceOf: CannotLeadError, message: /the store is empty.*backup/ };
  await t.throwsAsync(world.lead({ nodeVersion }, false), isEmpty);
  t.is((await world.store.load()).cluster, null);
  await t.throwsAsync(world.lead({ newEpoch: true }, false), { message: /the store is empty/ });
  await world.lead();
  await world.stopLeader();
  await t.throwsAsync(world.lead({ nodeVersion }), { instanceOf: CannotLeadError, message: /the store is of cluster/ });
  world.store = backup;
  const later = { ...nodeVersion, revision: revision + 1 };
  await t.throwsAsync(world.lead({ nodeVersion: later }), { instanceOf: CannotLeadError, message: /--new-epoch/ });
  await world.lead({ nodeVersion: later, newEpoch: true });
  t.true(world.leader!.state.cluster!.epoch > nodeVersion.epoch);
  await world.end();
});
