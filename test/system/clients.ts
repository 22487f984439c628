// Clients of a cluster whose managers are being lost: writers and readers of the managers, judged by test/chaos/history.ts, and
// HTTP clients of a service outside the overlay and in it.
import { setTimeout as delay } from "node:timers/promises";
import type { ExecutionContext } from "ava";
import { ApiClient } from "../../src/api/client.ts";
import { messageOf, UserError } from "../../src/lib/errors.ts";
import { History, judge } from "../chaos/history.ts";
import { tryRun, waitFor } from "./command.ts";
import type { Lab, LabNode } from "./lab.ts";
import { namespaceOf, untilRunning, vipOf } from "./listings.ts";

const PAUSE_MS = 200;
const PROBE_MS = 500;
const REQUEST_SECONDS = "10";

/** The service that HTTP clients ask answers on this port, which is published too. */
const HTTP_PORT = 8080;

/** Makes the service `web`, whose two tasks run on the workers alone: those do not wait for a manager's agent that is gone. */
export async function createWeb({ nodes }: Lab): Promise<void> {
  const [first] = nodes as [LabNode];
  const managers = (await first.api.nodes()).filter(({ role }) => role === "manager");
  await first.ctl("node", "drain", ...managers.map(({ name }) => name));
  await first.ctl("network", "create", "web");
  await first.ctl(
    ...["service", "create", "--name", "web", "--network", "web", "--replicas", "2"],
    ...["--publish", `${HTTP_PORT}:${HTTP_PORT}`, "--", "python3", "-m", "http.server", `${HTTP_PORT}`],
  );
}

/** Where the VIP of `web` is asked from: its tasks' own namespaces. */
export async function insideWeb(node: LabNode): Promise<{ vip: string; namespaces: string[] }> {
  const tasks = await untilRunning(node, "web", 2);
  return { vip: (await vipOf(node, "web"))!, namespaces: tasks.map(namespaceOf) };
}

interface ClientsOptions {
  lab: Lab;
  /** What is written begins with it. */
  prefix: string;
  /** Whose agents are asked to write and to read. */
  managers: readonly LabNode[];
  /** The nodes through whose mesh HTTP clients outside ask the service. */
  doors: readonly LabNode[];
  /** From these namespaces HTTP clients ask the service's VIP. */
  inside?: { vip: string; namespaces: readonly string[] };
}

export class Clients {
  readonly history = new History();
  readonly #options: ClientsOptions;
  readonly #probes: Promise<void>[] = [];
  readonly #run: Promise<void>[];
  #isOver = false;
  /** When the newest write that succeeded was asked for. */
  #lastWrite = 0;
  requests = 0;
  failedRequests: string[] = [];
  // BOUNDED: by one run of a test; keyed by what was to be written.
  readonly #refusals = new Map<string, string>();

  constructor(options: ClientsOptions) {
    this.#options = options;
    const { prefix, managers } = options;
    this.#run = [
      ...managers.map((node, i) => this.#operate(node, (count) => `${prefix}${i}-${count}`)),
      ...managers.map((node) => this.#operate(node, () => undefined)),
      this.#askForEver(),
    ];
  }

  async #operate(node: LabNode, nextValue: (count: number) => string | undefined): Promise<void> {
    for (let count = 0; !this.#isOver; count++) {
      await this.#once(node, nextValue(count));
      await delay(PAUSE_MS);
    }
  }

  /** undefined: a read. */
  async #once(node: LabNode, value: string | undefined): Promise<void> {
    const end = this.history.invoke({ client: value ?? node.name, manager: node.name, value });
    const asked = performance.now();
    try {
      if (value === undefined) {
        await this.#read(node, end);
      } else {
        end("ok", { revision: (await node.api.createNetwork({ name: value, internal: false })).revision });
        this.#lastWrite = Math.max(this.#lastWrite, asked);
      }
    } catch (error) {
      const isRefused = error instanceof UserError && error.code !== 504;
      end(isRefused ? "fail" : "unknown");
      if (isRefused && value !== undefined) this.#refusals.set(value, `${error.code}: ${messageOf(error)}`);
    }
  }

  /** What an agent that starts has on its disk may be older than what it has acknowledged; it says so, and that is not judged. */
  async #read(node: LabNode, end: ReturnType<History["invoke"]>): Promise<void> {
    const api = new ApiClient(node.env.OVERLAYD_SOCKET!);
    const seen = new Set((await api.networks()).map(({ name }) => name));
    end(api.stateSource === "disk" ? "unknown" : "ok", { seen });
  }

  /** In turn through the mesh of each door, and from each namespace. */
  async #askForEver(): Promise<void> {
    const { lab, doors, inside } = this.#options;
    const { netns } = lab.client;
    const ways = [
      ...doors.map(({ address }) => ({ netns, url: `http://${address}:${HTTP_PORT}/` })),
      ...(inside?.namespaces ?? []).map((namespace) => ({
        netns: namespace,
        url: `http://${inside!.vip}:${HTTP_PORT}/`,
      })),
    ];
    while (!this.#isOver) for (const way of ways) await this.#ask(way);
  }

  async #ask({ netns, url }: { netns: string; url: string }): Promise<void> {
    const curl = ["curl", "-sS", "-o", "/dev/null", "--max-time", REQUEST_SECONDS, url];
    const { status, stderr } = await tryRun(["nsenter", `--net=/run/netns/${netns}`, ...curl]);
    this.requests++;
    if (status !== 0) this.failedRequests.push(`${url} from ${netns}: ${stderr.trim()}`);
  }

  /**
   * Resolves with the milliseconds from now to the end of a write that is asked for from now on: besides the writers, which
   * wait for an answer, new ones ask every half second.
   */
  async nextWrite(): Promise<number> {
    const from = performance.now();
    const { prefix, managers } = this.#options;
    const probing = setInterval(() => {
      for (const node of managers) this.#probes.push(this.#once(node, `${prefix}p${this.#probes.length}`));
    }, PROBE_MS);
    try {
      await waitFor(() => this.#lastWrite > from, { what: "a write to succeed", everyMs: 20 });
    } finally {
      clearInterval(probing);
    }
    return performance.now() - from;
  }

  /** Ends them; those that wait for an answer end with it. */
  async end(): Promise<void> {
    this.#isOver = true;
    await Promise.all([...this.#run, ...this.#probes]);
  }

  /** Ends them, and judges what they saw by what the cluster has in the end. `by` is asked for that. */
  async judge(t: ExecutionContext, by: LabNode = this.#options.managers[0]!): Promise<void> {
    await waitFor(() => this.requests > 10, { what: "HTTP requests" });
    await this.end();
    await by.api.createNetwork({ name: `end${by.name}${performance.now() | 0}`, internal: false });
    const found = new Set((await by.api.networks()).map(({ name }) => name));
    const written = new Set(this.history.operations.flatMap(({ value }) => value ?? []));
    const values = new Set([...found].filter((name) => written.has(name)));
    for (const operation of this.history.operations) {
      operation.seen = new Set([...operation.seen].filter((name) => written.has(name)));
    }
    for (const value of values) if (this.#refusals.has(value)) t.log(`${value}: ${this.#refusals.get(value)}`);
    t.deepEqual(judge(this.history.operations, { revision: Number.POSITIVE_INFINITY, values }, "copies"), []);
    const acknowledged = this.history.operations.filter(({ value, outcome }) => value && outcome === "ok").length;
    t.log(`${acknowledged} acknowledged writes, ${this.requests} HTTP requests`);
    t.true(acknowledged > 3);
  }
}
