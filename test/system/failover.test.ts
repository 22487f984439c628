// Three managers as processes in namespaces, under writers, readers and HTTP clients: the leader's agent is stopped, frozen and
// continued, and cut off with its etcd. What writers and readers saw is judged by test/chaos/history.ts.
import { setTimeout as delay } from "node:timers/promises";
import type { ExecutionContext } from "ava";
import { messageOf, UserError } from "../../src/lib/errors.ts";
import { History, judge } from "../chaos/history.ts";
import { waitFor } from "./command.ts";
import type { Lab, LabNode } from "./lab.ts";
import { systemTest, useLab } from "./system-test.ts";

const three = useLab({ prefix: "fov", nodes: 3, managers: 3 }, async ({ nodes }) => {
  await nodes[0]!.ctl("service", "create", "--name", "web", "--replicas", "3", "--publish", "8080:8080", ...SERVER);
});
const SERVER = ["--", "python3", "-m", "http.server", "8080"];

async function untilEtcd({ nodes }: Lab): Promise<LabNode> {
  return waitFor(
    async () => {
      const { store, leader, managers } = await nodes[0]!.api.clusterStatus();
      const isWhole = store === "etcd" && managers.every(({ etcd, problem }) => etcd?.learner === false && !problem);
      return isWhole ? nodes.find(({ name }) => name === leader) : undefined;
    },
    { what: "the state to be in etcd, and a leader there" },
  );
}

/** Writers, readers and HTTP clients of all nodes. */
class Clients {
  readonly history = new History();
  readonly #lab: Lab;
  readonly #prefix: string;
  readonly #leader: LabNode;
  readonly #probes: Promise<void>[] = [];
  readonly #run: Promise<void>[];
  #isOver = false;
  /** When the newest write that succeeded was asked for. */
  #lastWrite = 0;
  requests = 0;
  failedRequests: string[] = [];

  /** HTTP clients ask the nodes besides `leader`: its own packets wait for its agent. */
  constructor(lab: Lab, prefix: string, leader: LabNode) {
    this.#lab = lab;
    this.#prefix = prefix;
    this.#leader = leader;
    this.#run = [
      ...lab.nodes.map((node, i) => this.#operate(node, (count) => `${prefix}${i}-${count}`)),
      ...lab.nodes.map((node) => this.#operate(node, () => undefined)),
      this.#ask(),
    ];
  }

  async #operate(node: LabNode, nextValue: (count: number) => string | undefined): Promise<void> {
    for (let count = 0; !this.#isOver; count++) {
      await this.#once(node, nextValue(count));
      await delay(200);
    }
  }

  /** undefined: a read. */
  async #once(node: LabNode, value: string | undefined): Promise<void> {
    const end = this.history.invoke({ client: value ?? node.name, manager: node.name, value });
    const asked = performance.now();
    try {
      if (value === undefined) {
        end("ok", { seen: new Set((await node.api.networks()).map(({ name }) => name)) });
      } else {
        end("ok", { revision: (await node.api.createNetwork({ name: value, internal: false })).revision });
        this.#lastWrite = Math.max(this.#lastWrite, asked);
      }
    } catch (error) {
      const isRefused = error instanceof UserError && error.code !== 504 && !/not known|cannot/.test(messageOf(error));
      end(isRefused ? "fail" : "unknown");
    }
  }

  /** From outside, through the mesh of each other node in turn. */
  async #ask(): Promise<void> {
    const { nodes, client } = this.#lab;
    while (!this.#isOver) {
      for (const { address } of nodes.filter((node) => node !== this.#leader)) {
        const url = `http://${address}:8080/`;
        const { status, stderr } = await client.tryExec(["curl", "-sS", "-o", "/dev/null", "--max-time", "10", url]);
        this.requests++;
        if (status !== 0) this.failedRequests.push(`${url}: ${stderr.trim()}`);
      }
    }
  }

  /**
   * Resolves with the milliseconds from now to the end of a write that is asked for from now on: besides the writers, which
   * wait for an answer, new ones ask every half second.
   */
  async nextWrite(): Promise<number> {
    const from = performance.now();
    const probing = setInterval(() => {
      const { nodes } = this.#lab;
      for (const node of nodes) this.#probes.push(this.#once(node, `${this.#prefix}p${this.#probes.length}`));
    }, 500);
    await waitFor(() => this.#lastWrite > from, { what: "a write to succeed", everyMs: 20 });
    clearInterval(probing);
    return performance.now() - from;
  }

  /** Ends them, and judges what they saw by what the nodes have in the end. */
  async judge(t: ExecutionContext): Promise<void> {
    await waitFor(() => this.requests > 10, { what: "HTTP requests" });
    this.#isOver = true;
    await Promise.all([...this.#run, ...this.#probes]);
    const { nodes } = this.#lab;
    await nodes[0]!.api.createNetwork({ name: `end${nodes[0]!.name}${performance.now() | 0}`, internal: false });
    const found = new Set((await nodes[0]!.api.networks()).map(({ name }) => name));
    const written = new Set(this.history.operations.flatMap(({ value }) => value ?? []));
    const values = new Set([...found].filter((name) => written.has(name)));
    for (const operation of this.history.operations) {
      operation.seen = new Set([...operation.seen].filter((name) => written.has(name)));
    }
    t.deepEqual(judge(this.history.operations, { revision: Number.POSITIVE_INFINITY, values }, "copies"), []);
    const acknowledged = this.history.operations.filter(({ value, outcome }) => value && outcome === "ok").length;
    t.log(`${acknowledged} acknowledged writes, ${this.requests} HTTP requests`);
    t.true(acknowledged > 3);
  }
}

async function prepare(prefix: string): Promise<{ leader: LabNode; clients: Clients }> {
  const lab = three();
  const leader = await untilEtcd(lab);
  await waitFor(async () => (await lab.nodes[0]!.api.service("web")).running === 3, { what: "three tasks to run" });
  const clients = new Clients(lab, prefix, leader);
  await clients.nextWrite();
  return { leader, clients };
}

systemTest("a leader that is stopped by SIGTERM hands over: no write is lost, and no request fails", async (t) => {
  const { leader, clients } = await prepare("stop");
  await leader.stopAgent();
  t.log(`a write succeeded ${Math.round(await clients.nextWrite())} ms after its agent had ended`);
  await leader.startAgent();
  await clients.nextWrite();
  await clients.judge(t);
  t.deepEqual(clients.failedRequests, []);
});

systemTest("a leader that is frozen and continued finds that it leads no more before it writes", async (t) => {
  const { leader, clients } = await prepare("frozen");
  process.kill(leader.agentPid!, "SIGSTOP");
  t.log(`a write succeeded ${Math.round(await clients.nextWrite())} ms after it was frozen`);
  process.kill(leader.agentPid!, "SIGCONT");
  await clients.nextWrite();
  await waitFor(async () => (await three().nodes[0]!.api.clusterStatus()).leader !== null, { what: "a leader" });
  await clients.judge(t);
  t.deepEqual(clients.failedRequests, []);
});

const CUT =
  "table inet cut { chain i { type filter hook input priority -300; iif != lo drop; }; chain o { type filter hook output priority -300; oif != lo drop; }; }";

systemTest(
  "a leader that is cut off with its etcd fences itself, and follows the next one when it is back",
  async (t) => {
    const { leader, clients } = await prepare("cut");
    await leader.exec(["nft", CUT]);
    t.log(`a write succeeded ${Math.round(await clients.nextWrite())} ms after it was cut off`);
    const others = three().nodes.filter((node) => node !== leader);
    await waitFor(
      async () => {
        const { leader: name } = await others[0]!.api.clusterStatus();
        return name !== null && name !== leader.name;
      },
      { what: "another leader" },
    );
    await leader.exec(["nft", "delete", "table", "inet", "cut"]);
    await waitFor(async () => (await leader.api.status()).connected, { what: "it to follow the new leader" });
    await clients.judge(t);
  },
);
