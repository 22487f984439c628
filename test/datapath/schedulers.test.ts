// Which task a new flow goes to: every scheduler, affinity, locality and weights, through whole data paths.
import test from "ava";
import type { Balancing } from "../../src/datapath/rows.ts";
import { ACK, FIN, RST, SYN } from "../fakes/ip-packets.ts";
import { type Cluster, type FakeNodes, fakeNodes, rowsFor } from "../fakes/nodes.ts";
import { A, B, CLUSTER, send, WEB } from "../fakes/two-nodes.ts";

const VIP = "10.192.32.2";
const MESH_VIP = "10.192.0.100";
const CLIENT = "10.192.32.11";
const [LOCAL, NEAR, FAR, OTHER] = ["10.192.32.10", "10.192.32.12", "10.192.32.20", "10.192.32.21"] as const;
const TASKS = [LOCAL, NEAR, FAR, OTHER];

function clusterOf(balancing: Partial<Balancing>, tasks: readonly string[] = TASKS): Cluster {
  const endpoints = {
    ...CLUSTER.endpoints,
    [NEAR]: { vtep: A, vni: WEB },
    [OTHER]: { vtep: B, vni: WEB },
  };
  const weights = balancing.weights ?? tasks.map(() => 1);
  const vip = { tasks: [...tasks], balancing: { ...balancing, weights } };
  return {
    ...CLUSTER,
    endpoints,
    vips: { [VIP]: { vni: WEB, ...vip }, [MESH_VIP]: { vni: 2, ...vip, ports: [[9200, 80]] } },
  };
}

async function withBalancing(balancing: Partial<Balancing>, tasks?: readonly string[]): Promise<FakeNodes> {
  const fake = fakeNodes(2);
  for (const node of fake.nodes) node.apply(rowsFor(clusterOf(balancing, tasks), node.vtep));
  await fake.advance(1500);
  return fake;
}

/** The task that a client's new connection reaches. */
function connect(fake: FakeNodes, sourcePort: number, source = CLIENT, flags = SYN): string {
  const { out } = send(fake, 0, { source, destination: VIP, sourcePort, flags });
  return out.flat()[0]!.destination;
}

/** How often each task was reached by `count` connections. */
function shares(fake: FakeNodes, count: number, source?: string): number[] {
  const reached = new Map(TASKS.map((task) => [task as string, 0]));
  for (let port = 1; port <= count; port++) {
    const task = connect(fake, port, source);
    reached.set(task, reached.get(task)! + 1);
  }
  return [...reached.values()];
}

test("rr: every task in turn", async (t) => {
  t.deepEqual(shares(await withBalancing({ scheduler: "rr" }), 40), [10, 10, 10, 10]);
});

test("wrr: every task by its weight, spread out, and none of weight 0", async (t) => {
  const fake = await withBalancing({ scheduler: "wrr", weights: [5, 1, 2, 0] });
  t.deepEqual(shares(fake, 80), [50, 10, 20, 0]);
  const order = Array.from({ length: 8 }, (_, i) => connect(fake, 1000 + i));
  t.false(order.join().includes(Array(4).fill(LOCAL).join()), "not all of one task's at once");
});

test("lc: the task with the fewest connections for its weight", async (t) => {
  const fake = await withBalancing({ scheduler: "lc", weights: [1, 1, 1, 3] });
  t.deepEqual(shares(fake, 60), [10, 10, 10, 30]);
});

test("lc: a task whose connections have ended gets the next ones", async (t) => {
  const fake = await withBalancing({ scheduler: "lc" });
  const tasks = Array.from({ length: 40 }, (_, i) => connect(fake, 1 + i));
  for (const [i, task] of tasks.entries()) if (task === NEAR) connect(fake, 1 + i, CLIENT, RST);
  await fake.advance(500);
  t.deepEqual(
    Array.from({ length: 8 }, (_, i) => connect(fake, 1000 + i)),
    Array(8).fill(NEAR),
  );
});

test("sh: a client's connections go to one task, on whatever node they come in, and clients are spread", async (t) => {
  const fake = await withBalancing({ scheduler: "sh" });
  const reached = new Map<string, number>();
  for (let host = 1; host <= 200; host++) {
    const client = `198.51.100.${host}`;
    const tasks = new Set(
      [0, 1, 0, 1].map((node, i) => {
        const packet = { source: client, destination: MESH_VIP, destinationPort: 9200, sourcePort: 1 + i };
        return send(fake, node as 0 | 1, packet).out.flat()[0]!.destination;
      }),
    );
    t.is(tasks.size, 1);
    for (const task of tasks) reached.set(task, (reached.get(task) ?? 0) + 1);
  }
  t.is(reached.size, 4);
  for (const count of reached.values()) t.true(count > 25 && count < 80, `${count} of 200`);
});

test("maglev: connections are spread evenly, and both nodes agree on each", async (t) => {
  const fake = await withBalancing({ scheduler: "maglev" });
  const reached = new Map<string, number>();
  for (let port = 1; port <= 400; port++) {
    const tasks = [0, 1].map((node) => {
      const packet = { source: "198.51.100.1", destination: MESH_VIP, destinationPort: 9200, sourcePort: port };
      return send(fake, node as 0 | 1, packet).out.flat()[0]!.destination;
    });
    t.is(tasks[0], tasks[1]);
    reached.set(tasks[0]!, (reached.get(tasks[0]!) ?? 0) + 1);
  }
  for (const count of reached.values()) t.true(count > 70 && count < 130, `${count} of 400`);
});

test("maglev: by weight", async (t) => {
  const [first, , , last] = shares(await withBalancing({ scheduler: "maglev", weights: [6, 1, 1, 0] }), 400);
  t.true(first! > 260 && first! < 340, `${first} of 400`);
  t.is(last, 0);
});

for (const scheduler of ["sh", "maglev"] as const) {
  test(`${scheduler}: a task that goes moves few connections of the others`, async (t) => {
    const full = await withBalancing({ scheduler });
    const less = await withBalancing({ scheduler }, [LOCAL, NEAR, FAR]);
    let moved = 0;
    let kept = 0;
    for (let i = 1; i <= 200; i++) {
      const client = `198.51.100.${i}`;
      const packet = { source: client, destination: MESH_VIP, destinationPort: 9200, sourcePort: i };
      const [before, after] = [full, less].map((fake) => send(fake, 0, packet).out.flat()[0]!.destination);
      if (before === OTHER) continue;
      if (before === after) kept++;
      else moved++;
    }
    t.true(moved <= kept / 10, `${moved} moved, ${kept} stayed`);
  });
}

test("a connection met in mid-stream is picked up: every node comes to the same task", async (t) => {
  for (const scheduler of ["rr", "wrr", "lc", "sh", "maglev"] as const) {
    const fake = await withBalancing({ scheduler });
    const seen = new Set<string>();
    for (let port = 1; port <= 20; port++) {
      const tasks = [0, 1].map((node) => {
        const packet = { source: "198.51.100.9", destination: MESH_VIP, destinationPort: 9200, sourcePort: port };
        return send(fake, node as 0 | 1, { ...packet, flags: ACK }).out.flat()[0]!.destination;
      });
      t.is(tasks[0], tasks[1], scheduler);
      seen.add(tasks[0]!);
    }
    t.is(seen.size > 1, scheduler !== "sh", scheduler);
  }
});

for (const scheduler of ["sh", "maglev"] as const) {
  test(`${scheduler}: a connection that the table has lost goes on to its own task`, async (t) => {
    const fake = await withBalancing({ scheduler });
    const tasks = Array.from({ length: 20 }, (_, i) => connect(fake, 1 + i));
    const fresh = await withBalancing({ scheduler });
    t.deepEqual(
      Array.from({ length: 20 }, (_, i) => connect(fresh, 1 + i, CLIENT, ACK)),
      tasks,
    );
  });
}

test("affinity: a client keeps its task when others come, until it has been away for the timeout", async (t) => {
  const fake = fakeNodes(2);
  const apply = (tasks: readonly string[]): void => {
    for (const node of fake.nodes) node.apply(rowsFor(clusterOf({ affinitySeconds: 60 }, tasks), node.vtep));
  };
  apply([LOCAL]);
  await fake.advance(1500);
  const clients = Array.from({ length: 40 }, (_, i) => `198.51.100.${1 + i}`);
  const reach = (port: number): string[] =>
    clients.map((source) => {
      const packet = { source, destination: MESH_VIP, destinationPort: 9200, sourcePort: port };
      return send(fake, 0, packet).out.flat()[0]!.destination;
    });
  t.deepEqual(new Set(reach(1)), new Set([LOCAL]));
  apply(TASKS);
  t.deepEqual(new Set(reach(2)), new Set([LOCAL]), "though there are four now");
  await fake.advance(50_000);
  t.deepEqual(new Set(reach(3)), new Set([LOCAL]), "and again, within the timeout");
  await fake.advance(61_500);
  t.is(new Set(reach(4)).size, 4, "but not for ever");
  const settled = reach(5);
  apply(TASKS.slice(1));
  const after = reach(6);
  t.false(after.includes(LOCAL));
  for (const [i, task] of settled.entries()) if (task !== LOCAL) t.is(after[i], task);
});

test("affinity: both nodes give a new client the same task", async (t) => {
  const fake = await withBalancing({ affinitySeconds: 60 });
  for (let host = 1; host <= 50; host++) {
    const tasks = [0, 1].map((node) => {
      const packet = { source: `198.51.100.${host}`, destination: MESH_VIP, destinationPort: 9200 };
      return send(fake, node as 0 | 1, packet).out.flat()[0]!.destination;
    });
    t.is(tasks[0], tasks[1]);
  }
});

test("prefer-local: tasks on this node, and others when there is none", async (t) => {
  const fake = await withBalancing({ preferLocal: true });
  t.deepEqual(shares(fake, 20), [10, 10, 0, 0]);
  const none = await withBalancing({ preferLocal: true }, [FAR, OTHER]);
  t.deepEqual(shares(none, 20), [0, 0, 10, 10]);
});

test("prefer-local: a local task of weight 0 is no reason to stay", async (t) => {
  const fake = await withBalancing({ preferLocal: true, weights: [0, 0, 1, 1] });
  t.deepEqual(shares(fake, 20), [0, 0, 10, 10]);
});

for (const scheduler of ["rr", "wrr", "lc", "sh", "maglev"] as const) {
  test(`${scheduler}: tasks on a node that is away get no new connections, unless there are no others`, async (t) => {
    const fake = await withBalancing({ scheduler });
    fake.wire.filter = () => [];
    await fake.advance(2000);
    for (let port = 1; port <= 20; port++) t.true([LOCAL, NEAR].includes(connect(fake, port) as typeof LOCAL));
    const far = await withBalancing({ scheduler }, [FAR]);
    far.wire.filter = () => [];
    await far.advance(2000);
    t.deepEqual(send(far, 0, { source: CLIENT, destination: VIP }).drops[0], {});
  });

  test(`${scheduler}: with all weights 0 there is no task`, async (t) => {
    const fake = await withBalancing({ scheduler, weights: [0, 0, 0, 0] });
    t.deepEqual(send(fake, 0, { source: CLIENT, destination: VIP }).drops[0], { "no-task": 1 });
  });

  test(`${scheduler}: a connection stays with its task to its end`, async (t) => {
    const fake = await withBalancing({ scheduler });
    for (let port = 1; port <= 8; port++) {
      const task = connect(fake, port);
      for (const flags of [ACK, ACK, FIN | ACK]) t.is(connect(fake, port, CLIENT, flags), task);
    }
  });
}

test("a thousand tasks: a table of Maglev is filled, and every task is reached", async (t) => {
  const tasks = Array.from({ length: 1000 }, (_, i) =>
    `10.192.40.${i % 250}`.replace("40", `${40 + Math.floor(i / 250)}`),
  );
  const endpoints = Object.fromEntries(tasks.map((task) => [task, { vtep: A, vni: WEB }]));
  const fake = fakeNodes(1, { flowCapacity: 16_384 });
  const cluster: Cluster = {
    ...CLUSTER,
    endpoints: { ...CLUSTER.endpoints, ...endpoints },
    vips: { [VIP]: { vni: WEB, tasks, balancing: { scheduler: "maglev" } } },
  };
  fake.nodes[0]!.apply(rowsFor(cluster, A));
  const reached = new Set(Array.from({ length: 12_000 }, (_, i) => connect(fake, 1 + i)));
  t.true(reached.size > 990, `${reached.size} of 1000`);
});
