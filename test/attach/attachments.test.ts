// What the agent attaches, keeps and gives back: a real leader, an engine and namespaces that the test writes.
import { rm } from "node:fs/promises";
import { join } from "node:path";
import test, { type ExecutionContext } from "ava";
import { Attachments } from "../../src/attach/attachments.ts";
import { DetachedContainers } from "../../src/attach/detached.ts";
import type { AttachmentSpec } from "../../src/attach/labels.ts";
import type { Namespaces } from "../../src/attach/namespaces.ts";
import type { CommandInput, CommandResult } from "../../src/cluster/commands.ts";
import type { Endpoint, TaskStatus } from "../../src/cluster/schema.ts";
import type { AppliedChange } from "../../src/cluster/state.ts";
import { UserError } from "../../src/lib/errors.ts";
import { silentLog } from "../../src/lib/log.ts";
import { type Container, DockerError } from "../../src/runtime/docker-engine.ts";
import type { DockerListener } from "../../src/runtime/docker-watch.ts";
import { Cluster } from "../leader/cluster-fixture.ts";
import { FakeNode, identityOf } from "../leader/fake-node.ts";
import { temporaryDirectory } from "../temporary.ts";

const NOTHING: AttachmentSpec = { network: null, service: null, ports: [], name: null, aliases: [], address: null };

/** `letter` makes its id. */
function container(letter: string, labels: Record<string, string> = {}, over: Partial<Container> = {}): Container {
  return {
    id: letter.repeat(64),
    name: `c-${letter}`,
    image: "app:1",
    labels,
    isRunning: true,
    pid: letter.charCodeAt(0),
    startedAt: 1000,
    finishedAt: 0,
    networkMode: "none",
    health: "none",
    healthOutput: "",
    hasTerminal: false,
    exitCode: 0,
    oomKilled: false,
    ...over,
  };
}

class FakeNamespaces implements Namespaces {
  readonly bound = new Map<string, number>();
  readonly resolvers = new Map<string, string>();
  readonly named = new Set<string>();

  exists = async (name: string) => this.named.has(name);
  bindContainer = async ({ id, pid }: Container) => void this.bound.set(id, pid);
  bindNamespace = async (subject: string) => void this.bound.set(subject, 0);
  adopt = async () => false;
  lookAgain = async () => {};
  has = (subject: string) => this.bound.has(subject);
  unbind = async (subject: string) => void this.bound.delete(subject);
  unbindOthers = async () => {};
  linksOf(subject: string, addresses: ReadonlySet<string>) {
    if (!this.bound.has(subject)) return undefined;
    return { netns: subject.slice(0, 4), links: new Map([...addresses].map((address, i) => [address, `eth${i}`])) };
  }
  pointResolver = async ({ id }: Container, gateway: string, search: readonly string[]) =>
    void this.resolvers.set(id, [gateway, ...search].join(" "));
}

async function world(t: ExecutionContext) {
  const cluster = await Cluster.start(2);
  await cluster.leader.execute({ type: "network.create", name: "web" });
  const containers = new Map<string, Container>();
  const listeners = new Set<DockerListener>();
  const statuses = new Map<string, TaskStatus>();
  const directory = temporaryDirectory("test");
  t.teardown(() => rm(directory, { recursive: true }));
  const namespaces = new FakeNamespaces();
  const faults = { problem: undefined as string | undefined, away: false, unreadable: undefined as string | undefined };
  /** As the agent does when it starts. */
  const launch = async () =>
    new Attachments({
      detached: await DetachedContainers.open(join(directory, "detached.json"), silentLog),
      nodeName: "node1",
      domain: "overlay",
      log: silentLog,
      clock: cluster.clock,
      engine: {
        container: async (id) => {
          if (id === faults.unreadable)
            throw new DockerError("docker inspect", { statusCode: 500, message: "a bad disk" });
          return containers.get(id);
        },
        containers: async () => [...containers.values()],
      },
      watch: {
        isUp: true,
        listen(listener) {
          listeners.add(listener);
          listener.opened();
          return () => listeners.delete(listener);
        },
      },
      namespaces,
      state: () => cluster.leader.state,
      isHeard: () => true,
      nodeId: () => cluster.node("node1").id,
      execute: (command: CommandInput): Promise<CommandResult> => {
        if (faults.away) return Promise.reject(new UserError(503, "no leader answers"));
        return cluster.leader.execute(command);
      },
      relink: async () => {},
      problemOf: () => faults.problem,
      report: (status) => void statuses.set(status.taskId, status),
    });
  const attachments = await launch();
  const rest = async () => {
    for (let i = 0; i < 20; i++) await cluster.clock.advance(1);
  };
  /** The engine has it so, and says so. */
  const happens = async (action: string, changed: Container) => {
    if (action === "destroy") containers.delete(changed.id);
    else containers.set(changed.id, changed);
    for (const listener of listeners) listener.happened({ id: changed.id, action, attributes: changed.labels });
    await rest();
  };
  const rows = () => [...cluster.leader.state.endpoints.values(), ...cluster.leader.state.tasks.values()];
  const stateOf = (id: string) => statuses.get(id)?.state;
  return { cluster, attachments, containers, namespaces, faults, happens, launch, rest, rows, stateOf, statuses };
}

const web = { "overlayd.network": "web" };

test("a container that starts with labels is attached, linked, and asks the gateway for names", async (t) => {
  const { happens, rows, stateOf, attachments, namespaces } = await world(t);
  await happens("start", container("a", web));
  const [row] = rows();
  t.is(row?.attachment?.name, "c-a");
  t.is(stateOf(row!.id), "running");
  t.deepEqual(attachments.sandboxes().get(row!.id), { netns: "aaaa", ifnames: ["eth0"] });
  t.is(namespaces.resolvers.get("a".repeat(64)), "10.192.32.1 web.overlay");
});

test("without labels of ours, with another node's, or started by an agent it is left alone", async (t) => {
  const { happens, rows } = await world(t);
  await happens("start", container("a"));
  await happens("start", container("b", { ...web, "overlayd.node": "node2" }));
  await happens(
    "start",
    container("c", { ...web, "overlayd.task": "x", "overlayd.role": "task", "overlayd.node-id": "y" }),
  );
  t.deepEqual(rows(), []);
});

test("one that another node has is neither taken nor rejected", async (t) => {
  const { happens, rows, cluster, attachments, namespaces } = await world(t);
  const node = cluster.node("node2").id;
  await cluster.leader.execute({ type: "attach", node, subject: "a".repeat(64), subjectName: "c-a", network: "web" });
  await happens("start", container("a", web));
  t.is(rows().length, 1);
  t.deepEqual(attachments.rejected, []);
  t.false(namespaces.has("a".repeat(64)));
});

test("one that stops keeps its row and says why, and runs again with the same", async (t) => {
  const { happens, rows, stateOf, statuses, namespaces } = await world(t);
  const service = { "overlayd.service": "search", "overlayd.network": "web" };
  await happens("start", container("a", service));
  const [row] = rows();
  await happens("die", container("a", service, { isRunning: false, pid: 0, exitCode: 137, finishedAt: 2000 }));
  t.deepEqual([stateOf(row!.id), statuses.get(row!.id)?.exitCode, statuses.get(row!.id)?.since], ["failed", 137, 2000]);
  t.false(namespaces.has("a".repeat(64)));
  await happens("start", container("a", service, { pid: 7, startedAt: 3000 }));
  t.is(rows()[0]?.id, row!.id);
  t.is(stateOf(row!.id), "running");
  t.is(namespaces.bound.get("a".repeat(64)), 7);
});

test("one that was attached after the agent's last snapshot keeps its row when the agent starts again", async (t) => {
  const { cluster, attachments, containers, launch, rest, rows, stateOf } = await world(t);
  await attachments.stop();
  containers.set("a".repeat(64), container("a"));
  const again = await launch(); // it looks at all while it knows of no row
  await rest();
  const node = cluster.node("node1").id;
  await cluster.leader.execute({ type: "attach", node, subject: "a".repeat(64), subjectName: "c-a", network: "web" });
  again.changed();
  await rest();
  t.is(rows().length, 1);
  t.is(stateOf(rows()[0]!.id), "running");
});

test("one that is removed is given back, also when the leader is back only later", async (t) => {
  const { happens, rows, faults, cluster, rest } = await world(t);
  await happens("start", container("a", web));
  faults.away = true;
  await happens("destroy", container("a", web));
  t.is(rows().length, 1);
  faults.away = false;
  await cluster.clock.advance(6000);
  await rest();
  t.is(rows().length, 0);
});

test("health decides where there is a check", async (t) => {
  const { happens, rows, stateOf } = await world(t);
  await happens("start", container("a", web, { health: "starting" }));
  const [row] = rows();
  t.is(stateOf(row!.id), "starting");
  await happens("health_status: healthy", container("a", web, { health: "healthy" }));
  t.is(stateOf(row!.id), "running");
  await happens("health_status: unhealthy", container("a", web, { health: "unhealthy" }));
  t.is(stateOf(row!.id), "failed");
});

test("a change of the state is looked at only where it concerns what is attached here or was rejected", async (t) => {
  const { happens, attachments, cluster, namespaces, rest, rows } = await world(t);
  await happens("start", container("a", web));
  let looks = 0;
  const bind = namespaces.bindContainer;
  namespaces.bindContainer = async (bound: Container) => {
    looks++;
    await bind(bound);
  };
  const isLookedAt = async (change: AppliedChange): Promise<boolean> => {
    const before = looks;
    attachments.stateChanged([change]);
    await rest();
    return looks > before;
  };
  const own = rows()[0] as Endpoint;
  const network = cluster.leader.state.networks.get(own.networkId)!;
  const networkChange = { kind: "networks", key: network.id, row: network, before: undefined } as const;
  const change = (row: Endpoint | null, before?: Endpoint): AppliedChange => {
    return { kind: "endpoints", key: own.id, row, before };
  };
  t.false(await isLookedAt(networkChange));
  t.false(await isLookedAt(change({ ...own, attachment: null })));
  const elsewhere = { ...own, nodeId: cluster.node("node2").id };
  t.false(await isLookedAt(change({ ...elsewhere, attachment: { ...own.attachment!, subject: "f".repeat(64) } })));
  t.true(await isLookedAt(change(own)));
  t.true(await isLookedAt(change(null, own)));
  t.true(await isLookedAt(change(elsewhere)), "another node attached a container of the engine that both share");
  const node = cluster.leader.state.nodes.get(cluster.node("node1").id)!;
  t.false(await isLookedAt({ kind: "nodes", key: node.id, row: node, before: node }));
  t.true(await isLookedAt({ kind: "nodes", key: node.id, row: node, before: undefined }), "this node has just joined");
  await happens("start", container("b", { "overlayd.network": "later" }));
  t.true(await isLookedAt(networkChange));
});

test("a rejected container is shown, and attached when the cluster can do what is asked", async (t) => {
  const { happens, rows, attachments, cluster, rest, namespaces } = await world(t);
  await happens("start", container("a", { "overlayd.network": "later" }));
  t.false(namespaces.has("a".repeat(64)));
  t.regex(attachments.rejected[0]?.error ?? "", /there is no network 'later'/);
  await cluster.leader.execute({ type: "network.create", name: "later" });
  attachments.changed();
  await rest();
  t.is(rows().length, 1);
  t.deepEqual(attachments.rejected, []);
});

test("a container rejected for its labels is not tried again, and goes with its container", async (t) => {
  const { happens, attachments, cluster, rest } = await world(t);
  const wrong = container("a", { "overlayd.netwrok": "web" });
  await happens("start", wrong);
  await cluster.clock.advance(20_000);
  await rest();
  t.is(attachments.rejected.length, 1);
  await happens("destroy", wrong);
  t.is(attachments.rejected.length, 0);
});

test("one detached by hand stays so until it is started again, whatever the agent does", async (t) => {
  const { happens, rows, attachments, cluster, launch, rest } = await world(t);
  await happens("start", container("a", web));
  await attachments.detach("c-a", null);
  await cluster.clock.advance(20_000);
  await rest();
  t.deepEqual(rows(), []);
  await attachments.stop();
  await launch();
  await rest();
  t.deepEqual(rows(), []);
  await happens("start", container("a", web, { pid: 8, startedAt: 5000 }));
  t.is(rows().length, 1);
});

test("a label for a node that there is not is rejected by every node, until it joins", async (t) => {
  const { happens, rows, attachments, cluster, rest } = await world(t);
  await happens("start", container("a", { ...web, "overlayd.node": "nod2" }));
  await happens("start", container("b", { ...web, "overlayd.node": "node3" }));
  t.deepEqual(rows(), []);
  t.deepEqual(
    attachments.rejected.map(({ error }) => error),
    [
      "label overlayd.node: there is no node 'nod2'; did you mean 'node2'?",
      "label overlayd.node: there is no node 'node3'; did you mean 'node1'?",
    ],
  );
  await new FakeNode(identityOf(3)).join(cluster.leader);
  attachments.changed();
  await rest();
  t.is(attachments.rejected.length, 1);
});

test("a task of a service on two networks is not taken off one of them", async (t) => {
  const { happens, rows, attachments, cluster } = await world(t);
  const workload = { runtime: "process" as const, command: ["true"] };
  const networks = ["default", "web"].map((name) => ({ name, aliases: [] }));
  await cluster.leader.execute({ type: "service.create", name: "both", workload, networks, replicas: 0 });
  await happens("start", container("a", { "overlayd.service": "both" }));
  await t.throwsAsync(attachments.detach("c-a", "web"), { message: /is on 'default' and 'web': it can only be/ });
  t.is(rows().length, 1);
  await attachments.detach("c-a", null);
  t.deepEqual(rows(), []);
});

test("one that cannot be bound keeps no other from it", async (t) => {
  const { happens, attachments, namespaces, stateOf, rows, rest } = await world(t);
  await happens("start", container("a", web));
  await happens("start", container("b", web));
  const [, second] = rows();
  const bind = namespaces.bindContainer;
  namespaces.bindContainer = async (bound: Container) => {
    if (bound.name === "c-a") throw new Error("no such process");
    await bind(bound);
  };
  namespaces.bound.delete("b".repeat(64));
  attachments.changed();
  await rest();
  t.true(namespaces.has("b".repeat(64)));
  t.is(stateOf(second!.id), "running");
});

test("a name that was misspelt is answered with the nearest", async (t) => {
  const { attachments, containers, happens } = await world(t);
  containers.set("b".repeat(64), container("b", {}, { name: "database" }));
  await t.throwsAsync(attachments.attach("databse", NOTHING), { message: /no container; did you mean 'database'/ });
  await happens("start", container("a", web, { name: "frontend" }));
  await t.throwsAsync(attachments.detach("fronted", null), { message: /on this node; did you mean 'frontend'/ });
});

test("one that the engine cannot describe keeps its row, and hides no other; it is looked at again", async (t) => {
  const { attachments, happens, launch, containers, cluster, faults, rest, rows } = await world(t);
  const broken = container("a", web);
  await happens("start", broken);
  const [before] = rows();
  await attachments.stop();
  containers.set("b".repeat(64), container("b", web));
  faults.unreadable = broken.id;
  await launch();
  await rest();
  t.deepEqual(
    rows()
      .map(({ attachment }) => attachment?.name)
      .sort(),
    ["c-a", "c-b"],
  );
  t.is(rows().find(({ attachment }) => attachment?.name === "c-a")?.id, before!.id);
  containers.delete(broken.id);
  faults.unreadable = undefined;
  await cluster.clock.advance(6000);
  await rest();
  t.deepEqual(
    rows().map(({ attachment }) => attachment?.name),
    ["c-b"],
  );
});

test("one that is attached by hand and cannot be linked is not attached", async (t) => {
  const { attachments, containers, faults, rows } = await world(t);
  containers.set("a".repeat(64), container("a"));
  faults.problem = "no room";
  await t.throwsAsync(attachments.attach("a".repeat(64), NOTHING), { message: /its link cannot be made: no room/ });
  t.deepEqual(rows(), []);
});

test("a namespace is attached by its name, and given back when it is gone", async (t) => {
  const { attachments, namespaces, rows, cluster, rest } = await world(t);
  await t.throwsAsync(attachments.attach("blue", NOTHING), { message: /no network namespace 'blue'/ });
  namespaces.named.add("blue");
  const elsewhere = attachments.attach("blue", { ...NOTHING, network: "wbe" });
  await t.throwsAsync(elsewhere, { message: /there is no network 'wbe'/ });
  t.false(namespaces.has("netns:blue"));
  const { addresses } = await attachments.attach("blue", { ...NOTHING, network: "web" });
  t.regex(addresses[0]!, /^10\.192\.32\./);
  namespaces.named.delete("blue");
  await cluster.clock.advance(6000);
  await rest();
  t.deepEqual(rows(), []);
});

for (const [networkMode, says] of [
  ["host", /has its host's network/],
  ["container:abc", /shares the network of another/],
] as const) {
  test(`a container with the network mode ${networkMode} is rejected`, async (t) => {
    const { happens, attachments, rows } = await world(t);
    await happens("start", container("a", web, { networkMode }));
    t.regex(attachments.rejected[0]?.error ?? "", says);
    t.deepEqual(rows(), []);
  });
}
