// What the state says is put in force where a change concerns it, and nowhere else; and what an earlier agent left in force is
// replaced only when the agent has heard a leader.
import test from "ava";
import { InForce, type InForceOptions, type NodeContainers } from "../../src/agent/in-force.ts";
import type { Published } from "../../src/agent/lane-entrances.ts";
import type { Change, HeldPort } from "../../src/cluster/schema.ts";
import { type AppliedChange, LiveState } from "../../src/cluster/state.ts";
import { rowKey, type TableDiff } from "../../src/datapath/rows.ts";
import { ipv4 } from "../../src/lib/ip.ts";
import { silentLog } from "../../src/lib/log.ts";
import type { DesiredLinks } from "../../src/links/desired.ts";
import type { DesiredMesh } from "../../src/mesh/mesh.ts";
import type { DesiredTask } from "../../src/runtime/supervisor.ts";
import { networkRow, nodeRow, put, serviceRow, statusRow, taskRow } from "../api/fake-backend.ts";
import { VirtualClock } from "../fakes/virtual-clock.ts";

const OWN = nodeRow("node1", { manager: false });
const OTHER = nodeRow("node2");

/** The node's feed, over a state that the test changes. */
class FakeNodeState {
  readonly state = new LiveState();
  #listener: (changes: readonly AppliedChange[]) => void = () => {};

  subscribe(listener: (changes: readonly AppliedChange[]) => void): () => void {
    this.#listener = listener;
    return () => {};
  }

  change(...changes: Change[]): void {
    this.#listener(this.state.apply(changes, this.state.revision + 1));
  }
}

/** What each part of the node was asked for. */
class Asked {
  readonly diffs: TableDiff[] = [];
  readonly links: { desired: DesiredLinks; look: boolean }[] = [];
  readonly mesh: { desired: DesiredMesh; look: boolean }[] = [];
  readonly tasks: (readonly DesiredTask[])[] = [];
  readonly published: Published[] = [];
  readonly applied: number[] = [];
  readonly addresses: (readonly string[])[] = [];
  removesOthers = 0;
  readonly containers: NodeContainers = {
    tasks: { apply: (tasks) => void this.tasks.push(tasks), removeOthers: () => this.removesOthers++ },
    sandboxes: async () => new Map(),
  };

  /** How often each part was asked since the last call. */
  counts(): Record<"diffs" | "links" | "mesh" | "tasks", number> {
    const { diffs, links, mesh, tasks } = this;
    const counts = { diffs: diffs.length, links: links.length, mesh: mesh.length, tasks: tasks.length };
    for (const calls of [diffs, links, mesh, tasks]) calls.length = 0;
    return counts;
  }
}

interface Options {
  /** Whether the table of published ports of an agent before is there. */
  isThere?: boolean;
  isHeard?: boolean;
  over?: Partial<InForceOptions>;
}

function setUp({ isThere = false, isHeard = true, over = {} }: Options = {}) {
  const clock = new VirtualClock();
  const nodeState = new FakeNodeState();
  const asked = new Asked();
  const world = {
    isHeard,
    held: [] as HeldPort[],
    hostAddresses: ["198.51.100.1"],
  };
  const inForce = new InForce({
    log: silentLog,
    clock,
    nodeState,
    nodeId: () => OWN.id,
    isHeard: () => world.isHeard,
    device: "overlay0",
    pool: "10.192.0.0/10",
    mtu: 1450,
    meshOn: true,
    runsStore: true,
    nodeServices: true,
    managers: () => [],
    adoptsLinks: true,
    hostAddresses: () => world.hostAddresses.map((address) => ({ address, onLoopback: false })),
    dataPath: { apply: async (diff) => void asked.diffs.push(diff) },
    links: {
      apply: async (desired, { look }) => {
        asked.links.push({ desired, look });
        return new Map();
      },
    },
    mesh: {
      isThere: async () => isThere,
      apply: async (desired, { look }) => {
        asked.mesh.push({ desired, look });
        return world.held;
      },
    },
    lane: { publish: (published) => void asked.published.push(published) },
    dns: { listen: async () => {} },
    naming: () => ({ domain: "overlay", resolver: { nameservers: [], search: [], options: [] } }),
    observed: ({ addresses }) => void (addresses !== undefined && asked.addresses.push(addresses)),
    applied: (revision) => void asked.applied.push(revision),
    ...over,
  });
  return { clock, nodeState, asked, inForce, world };
}

/** A node that has begun, in a cluster with a network and a service whose only task is on the other node. */
async function running(options: Options = {}) {
  const node = setUp(options);
  const ingress = networkRow("ingress", { gateway: "10.192.0.1", subnet: "10.192.0.0/20", vni: 2 });
  node.nodeState.state.apply([put.node(OWN), put.node(OTHER), put.network(ingress), put.network(networkRow("web"))], 1);
  node.nodeState.state.apply([put.service(serviceRow("search")), put.task(taskRow("search", 1, "node2"))], 2);
  node.inForce.start();
  node.inForce.begin(node.asked.containers);
  await node.clock.advance(1000); // what comes next is no part of a burst
  node.asked.counts();
  return node;
}

test("changes that come together are put in force together, and the last of them is told", async (t) => {
  const { clock, nodeState, asked } = await running();
  asked.counts();
  for (let i = 0; i < 5; i++) nodeState.change(put.service(serviceRow(`s${i}`)));
  await clock.advance(1);
  t.is(asked.counts().diffs, 1);
  t.is(asked.applied.at(-1), nodeState.state.revision);
});

test("a revision is told when its own rows are in force, whatever else asks meanwhile", async (t) => {
  let isHeld = false;
  let release = () => {};
  const apply = async () => {
    if (isHeld) await new Promise<void>((resolve) => (release = resolve));
  };
  const { clock, nodeState, asked, inForce } = await running({ over: { dataPath: { apply } } });
  isHeld = true;
  nodeState.change(put.service(serviceRow("web2", { vips: { web: "10.192.0.77" } })));
  inForce.begin(asked.containers); // all parts are asked before the change is
  await clock.advance(10);
  t.true(asked.applied.every((revision) => revision < nodeState.state.revision));
  isHeld = false;
  release();
  await clock.advance(10);
  release();
  await clock.advance(10);
  t.is(asked.applied.at(-1), nodeState.state.revision);
});

test("the table of published ports of an agent before stays until a leader was heard", async (t) => {
  const { clock, nodeState, inForce, asked, world } = setUp({ isThere: true, isHeard: false });
  inForce.start();
  inForce.begin(asked.containers);
  await clock.advance(1000);
  t.is(asked.mesh.length, 0, "a snapshot from disk may lack a port");
  world.isHeard = true;
  nodeState.change();
  await clock.advance(1000);
  t.true(asked.mesh.length > 0);
  t.true(asked.removesOthers > 0);
  await inForce.stop();
});

test("where no leader answers, it is as the snapshot says after fifteen seconds", async (t) => {
  const { clock, inForce, asked } = setUp({ isThere: true, isHeard: false });
  inForce.start();
  inForce.begin(asked.containers);
  await clock.advance(16_000);
  t.true(asked.mesh.length > 0);
  t.is(asked.removesOthers, 0, "but no task is removed");
  await inForce.stop();
});

test("where there is no such table it is made at once", async (t) => {
  const { clock, inForce, asked } = setUp({ isHeard: false });
  inForce.start();
  inForce.begin(asked.containers);
  await clock.advance(1000);
  t.true(asked.mesh.length > 0);
  await inForce.stop();
});

test("a leader that is heard after the snapshot on disk counts: the changes that come with it are in force too", async (t) => {
  const { clock, nodeState, asked, inForce, world } = await running({ isHeard: false });
  await clock.advance(16_000);
  asked.counts();
  world.isHeard = true;
  nodeState.change(put.network(networkRow("db", { vni: 5000, gateway: "10.192.48.1", subnet: "10.192.48.0/20" })));
  await clock.advance(1000);
  t.true(asked.diffs.some(({ put: rows }) => rows.some((row) => rowKey(row) === "network 5000")));
  t.not(asked.links.at(-1)?.desired.held, "all");
  await inForce.stop();
});

const ELSEWHERE: [what: string, changes: Change[], rows: string[]][] = [
  [
    "a service without a port",
    [put.service(serviceRow("shop", { vips: { [networkRow("web").id]: "10.192.32.9" } }))],
    [`vip ${ipv4("10.192.32.9")}`],
  ],
  ["a task of another node", [put.task(taskRow("search", 2, "node2"))], [`endpoint ${ipv4("10.192.32.12")}`]],
  [
    "a task of another node that runs",
    [put.status(statusRow(taskRow("search", 1, "node2"), "running"))],
    [`vip ${ipv4("10.192.32.2")}`],
  ],
  [
    "how far another node's task has come",
    [put.status(statusRow(taskRow("search", 1, "node2"), "preparing", { message: "40 %" }))],
    [],
  ],
  ["another node that is behind", [put.node({ ...OTHER, health: "behind" })], []],
];
for (const [what, changes, rows] of ELSEWHERE) {
  test(`${what}: no link, no rule and no task of this node is looked at, and it is told as applied`, async (t) => {
    const { clock, nodeState, asked, inForce } = await running();
    nodeState.change(...changes);
    await clock.advance(100);
    const sent = asked.diffs.flatMap((diff) => [...diff.put.map(rowKey), ...diff.delete]);
    t.deepEqual(sent.toSorted(), rows);
    const { links, mesh, tasks } = asked.counts();
    t.deepEqual({ links, mesh, tasks }, { links: 0, mesh: 0, tasks: 0 });
    t.is(asked.applied.at(-1), nodeState.state.revision);
    await inForce.stop();
  });
}

test("another node that joins: the mesh is as before, and what is there is not looked at", async (t) => {
  const { clock, nodeState, asked, inForce } = await running();
  await clock.advance(30_000);
  const before = asked.mesh.at(-1)!.desired;
  asked.counts();
  nodeState.change(put.node(nodeRow("node3")));
  await clock.advance(100);
  const sent = asked.diffs.flatMap((diff) => diff.put.map(rowKey));
  t.deepEqual(sent.toSorted(), [`denied ${ipv4("192.0.2.13")}`, `peer ${ipv4("192.0.2.13")}`]);
  t.deepEqual(asked.mesh, [{ desired: before, look: false }]);
  const { links, tasks } = asked.counts();
  t.deepEqual({ links, tasks }, { links: 0, tasks: 0 });
  await inForce.stop();
});

const HERE: [what: string, changes: Change[], counts: { links: number; mesh: number; tasks: number }][] = [
  ["a task of this node", [put.task(taskRow("search", 3, "node1"))], { links: 1, mesh: 0, tasks: 1 }],
  ["a network", [put.network(networkRow("db", { vni: 5000 }))], { links: 1, mesh: 0, tasks: 0 }],
  [
    "a published port",
    [
      put.service(
        serviceRow("search", {
          meshVip: "10.192.0.9",
          ports: [{ published: 80, target: 8080, protocol: "tcp", mode: "ingress", address: null }],
        }),
      ),
    ],
    { links: 0, mesh: 1, tasks: 0 },
  ],
  ["a node with another VXLAN port", [put.node({ ...OTHER, vxlanPort: 4790 })], { links: 0, mesh: 1, tasks: 0 }],
];
for (const [what, changes, expected] of HERE) {
  test(`${what}: what it concerns is made so, without a look at what is there`, async (t) => {
    const { clock, nodeState, asked, inForce } = await running();
    nodeState.change(...changes);
    await clock.advance(100);
    t.false([...asked.links, ...asked.mesh].some(({ look }) => look));
    const { links, mesh, tasks } = asked.counts();
    t.deepEqual({ links, mesh, tasks }, expected);
    await inForce.stop();
  });
}

test("all is looked at every thirty seconds, also while changes come", async (t) => {
  const { clock, nodeState, asked, inForce } = await running();
  for (let passed = 0; passed < 60_000; passed += 5000) {
    nodeState.change(put.status(statusRow(taskRow("search", 1, "node2"), passed % 2 === 0 ? "running" : "failed")));
    await clock.advance(5000);
  }
  t.deepEqual(
    asked.links.map(({ look }) => look),
    [true, true],
  );
  t.deepEqual(
    asked.mesh.map(({ look }) => look),
    [true, true],
  );
  await inForce.stop();
});

test("the node's own addresses are looked at when they change and every thirty seconds, and told when they differ", async (t) => {
  const { clock, asked, inForce, world } = await running();
  const sent = () => asked.diffs.splice(0).flatMap((diff) => [...diff.put.map(rowKey), ...diff.delete]);
  world.hostAddresses.push("198.51.100.2");
  inForce.viewpointChanged();
  await clock.advance(0);
  t.deepEqual(sent(), ["node", `denied ${ipv4("198.51.100.2")}`]);
  t.deepEqual(asked.addresses.at(-1), ["198.51.100.1", "198.51.100.2"]);
  world.hostAddresses.push("198.51.100.3");
  await clock.advance(30_000);
  t.deepEqual(sent(), ["node", `denied ${ipv4("198.51.100.3")}`]);
  t.is(asked.addresses.length, 3);
  await inForce.stop();
});

test("ports that processes of the node hold reach the data path, and are looked at until they are free", async (t) => {
  const { clock, asked, inForce, world } = await running();
  world.held = [{ port: 80, protocol: "tcp", address: "0.0.0.0" }];
  await clock.advance(30_000);
  const node = asked.diffs.flatMap((diff) => diff.put).findLast((row) => row.kind === "node");
  t.deepEqual(node?.kind === "node" && node.heldPorts, [{ protocol: 6, port: 80, address: 0 }]);
  world.held = [];
  asked.counts();
  await clock.advance(2000);
  t.is(asked.mesh.length, 1, "two seconds later");
  await clock.advance(20_000);
  t.is(asked.mesh.length, 1, "and then no more");
  await inForce.stop();
});

test("a run that fails is tried again with what it was to look at, and its revision is told only then", async (t) => {
  let failures = 2;
  const over: Partial<InForceOptions> = {
    links: {
      apply: async ({ gateways }) => {
        if (gateways.length > 1 && failures-- > 0) throw new Error("not now");
        return new Map();
      },
    },
  };
  const { clock, nodeState, asked, inForce } = await running({ over });
  const before = nodeState.state.revision;
  nodeState.change(put.network(networkRow("db", { vni: 5000 })));
  await clock.advance(500);
  t.deepEqual(asked.applied.at(-1), before);
  await clock.advance(10_000);
  t.true(failures < 0);
  t.is(asked.applied.at(-1), nodeState.state.revision);
  await inForce.stop();
});

test("what is told as applied is the revision before the waiting, though the state goes on meanwhile", async (t) => {
  let release = (): void => {};
  let waits = false;
  const over: Partial<InForceOptions> = {
    links: {
      apply: async () => {
        if (waits) await new Promise<void>((resolve) => (release = resolve));
        return new Map();
      },
    },
  };
  const { clock, nodeState, asked, inForce } = await running({ over });
  waits = true;
  nodeState.change(put.network(networkRow("db", { vni: 5000 })));
  const first = nodeState.state.revision;
  await clock.advance(0);
  nodeState.change(put.network(networkRow("logs", { vni: 5001 })));
  await clock.advance(0);
  asked.applied.length = 0;
  release();
  await clock.advance(0);
  t.deepEqual(asked.applied, [first]);
  waits = false;
  release();
  await clock.advance(1000);
  t.is(asked.applied.at(-1), nodeState.state.revision);
  await inForce.stop();
});
