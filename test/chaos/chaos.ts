// Three managers with an etcd of three members, each manager on its own, while writers and readers ask them and processes are
// killed, frozen and stopped. What clients saw is judged by history.ts.
import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { EtcdStore } from "../../src/leader/etcd-store.ts";
import { systemClock } from "../../src/lib/clock.ts";
import { silentLog } from "../../src/lib/log.ts";
import { newId } from "../../src/lib/random.ts";
import { found, SEAL_KEY } from "../fakes/founding.ts";
import { seededRandom } from "../fakes/seeded-random.ts";
import { identityOf } from "../leader/fake-node.ts";
import { TestEtcd } from "../leader/test-etcd.ts";
import { type Final, History, judge } from "./history.ts";
import type { ManagerArguments, Reply, Request } from "./manager.ts";

const MANAGER = fileURLToPath(new URL("./manager.js", import.meta.url));
const PREFIX = "/chaos";
const MANAGERS = 3;
const WRITERS = 3;
const READERS = 4;
/** How often a writer asks any manager. */
const ELSEWHERE = 0.2;
/** After this time without an answer a client takes the outcome for unknown. */
const ANSWER_MS = 2500;
/** How long after a fault a write may take to succeed before the run has failed. */
const RECOVER_MS = 120_000;
const FREEZE_MS = 5000;
const FREEZE_SPREAD_MS = 4000;

export type Fault =
  | "leader killed"
  | "leader and its etcd killed"
  | "leader stopped"
  | "leader frozen"
  | "etcd killed"
  | "leader's etcd frozen";
const FAULTS: readonly Fault[] = [
  ...(["leader killed", "leader and its etcd killed", "leader stopped", "leader frozen", "etcd killed"] as const),
  "leader's etcd frozen",
];

export interface ChaosOutcome {
  violations: string[];
  acknowledged: number;
  reads: number;
  /** Milliseconds from each fault to the next write that succeeded, by fault. */
  recoveries: Map<Fault, number[]>;
}

interface Manager {
  child: ChildProcess;
  // BOUNDED: by the clients; keyed by request id.
  asked: Map<number, (reply: Reply) => void>;
}

export class Chaos {
  readonly #etcd: TestEtcd;
  readonly #history = new History();
  readonly #managers: Manager[] = [];
  readonly #random: () => number;
  readonly #log: (line: string) => void;
  readonly #recoveries = new Map<Fault, number[]>();
  #requests = 0;
  #isOver = false;
  /** The manager that has answered last. */
  #leader = 0;
  #lastSuccess = 0;

  private constructor(etcd: TestEtcd, seed: number, log: (line: string) => void) {
    this.#etcd = etcd;
    this.#random = seededRandom(seed);
    this.#log = log;
  }

  /** Does `faults` of them, and judges what clients saw. */
  static async run(faults: number, seed: number, log: (line: string) => void = () => {}): Promise<ChaosOutcome> {
    const chaos = new Chaos(await TestEtcd.start({ members: MANAGERS }), seed, log);
    try {
      return await chaos.#run(faults);
    } finally {
      chaos.#isOver = true;
      for (const { child } of chaos.#managers) child.kill("SIGKILL");
      await chaos.#etcd.remove();
    }
  }

  async #run(faults: number): Promise<ChaosOutcome> {
    await this.#found();
    for (let i = 0; i < MANAGERS; i++) this.#launch(i);
    const clients = [
      ...Array.from({ length: WRITERS }, (_, i) => this.#client(`w${i}`, true)),
      ...Array.from({ length: READERS }, (_, i) => this.#client(`r${i}`, false)),
    ];
    await this.#successAfter(performance.now());
    for (let i = 0; i < faults; i++) await this.#fault(this.#pick(FAULTS));
    await delay(1000);
    this.#isOver = true;
    await Promise.all(clients);
    for (const { child } of this.#managers) await stop(child, "SIGTERM");
    const { operations } = this.#history;
    const ok = operations.filter(({ outcome }) => outcome === "ok");
    return {
      violations: judge(operations, await this.#final()),
      acknowledged: ok.filter(({ value }) => value !== undefined).length,
      reads: ok.filter(({ value }) => value === undefined).length,
      recoveries: this.#recoveries,
    };
  }

  /** The first state of a cluster, and what the store has in the end. */
  async #found(): Promise<void> {
    const { client, store } = this.#store();
    await found(store, { identity: identityOf(1), newId });
    await store.close();
    client.close();
  }

  async #final(): Promise<Final> {
    const { client, store } = this.#store();
    await store.campaign();
    const { revision, services } = await store.load();
    await store.close();
    client.close();
    return { revision, values: new Set([...services.values()].map(({ name }) => name)) };
  }

  #store() {
    const client = this.#etcd.client();
    return {
      client,
      store: new EtcdStore({
        client,
        prefix: PREFIX,
        sealKey: SEAL_KEY,
        self: "test",
        clock: systemClock,
        log: silentLog,
      }),
    };
  }

  #launch(i: number): void {
    const words: ManagerArguments = {
      ...{ name: `m${i}`, endpoint: this.#etcd.endpoints[i]!, tls: this.#etcd.tls, prefix: PREFIX },
    };
    const child = fork(MANAGER, [JSON.stringify(words)]);
    const manager: Manager = { child, asked: new Map() };
    child.on("message", (reply: Reply) => manager.asked.get(reply.id)?.(reply));
    child.on("error", () => {}); // a message to one that was killed
    this.#managers[i] = manager;
  }

  /**
   * Asks one thing after the other. Writers ask the manager that has answered last, or the next one, and now and then any;
   * readers ask any: so a manager that was frozen has questions that came after another one led.
   */
  async #client(name: string, isWriter: boolean): Promise<void> {
    let at = 0;
    for (let count = 0; !this.#isOver; count++) {
      const value = isWriter ? `${name}-${count}` : undefined;
      const isAny = !isWriter || this.#random() < ELSEWHERE;
      const asked = isAny ? Math.floor(this.#random() * MANAGERS) : at;
      const end = this.#history.invoke({ client: name, manager: `m${asked}`, value });
      const { outcome, seen, ...answer } = await this.#ask(asked, value);
      end(outcome, { ...answer, ...(seen === undefined ? {} : { seen: new Set(seen) }) });
      if (outcome !== "ok" && asked === at) at = (at + 1) % MANAGERS;
      if (outcome === "ok" && isWriter) {
        at = asked;
        this.#leader = at;
        this.#lastSuccess = performance.now();
      }
      await delay(isWriter ? 100 : 50);
    }
  }

  #ask(at: number, write: string | undefined): Promise<Reply> {
    const { child, asked } = this.#managers[at]!;
    const id = ++this.#requests;
    const request: Request = { id, ...(write === undefined ? {} : { write }) };
    return new Promise((resolve) => {
      const finish = (reply: Reply) => {
        clearTimeout(timer);
        asked.delete(id);
        child.off("exit", gone);
        resolve(reply);
      };
      const gone = () => finish({ id, outcome: "unknown" });
      const timer = setTimeout(gone, ANSWER_MS);
      asked.set(id, finish);
      child.once("exit", gone);
      if (child.exitCode !== null || child.signalCode !== null || !child.connected) return gone();
      child.send(request, (error) => error && gone());
    });
  }

  async #fault(fault: Fault): Promise<void> {
    const leader = this.#leader;
    const began = performance.now();
    const mend = await this.#break(fault, leader);
    const broken = performance.now();
    const took = await this.#successAfter(broken);
    await mend();
    this.#recoveries.set(fault, [...(this.#recoveries.get(fault) ?? []), took]);
    this.#log(
      `${fault} (m${leader}): a write succeeded after ${Math.round(took)} ms, ${Math.round(performance.now() - began)} ms in all`,
    );
    await delay(500 + 1000 * this.#random());
  }

  /** Returns what puts it right again. */
  async #break(fault: Fault, leader: number): Promise<() => Promise<void>> {
    const etcd = this.#etcd;
    const { child } = this.#managers[leader]!;
    switch (fault) {
      case "leader killed":
        await stop(child, "SIGKILL");
        return async () => this.#launch(leader);
      case "leader stopped":
        await stop(child, "SIGTERM");
        return async () => this.#launch(leader);
      case "leader and its etcd killed":
        await Promise.all([stop(child, "SIGKILL"), etcd.kill(leader)]);
        return async () => {
          etcd.launch(leader);
          await etcd.ready(leader);
          this.#launch(leader);
        };
      case "leader frozen": {
        child.kill("SIGSTOP");
        const thawed = delay(this.#freezeMs()).then(() => child.kill("SIGCONT"));
        return async () => void (await thawed);
      }
      case "etcd killed": {
        const member = Math.floor(this.#random() * MANAGERS);
        await etcd.kill(member);
        return async () => {
          etcd.launch(member);
          await etcd.ready(member);
        };
      }
      case "leader's etcd frozen": {
        await etcd.freeze(leader);
        const thawed = delay(this.#freezeMs()).then(() => etcd.thaw(leader));
        return async () => {
          await thawed;
          await etcd.ready(leader);
        };
      }
    }
  }

  /** Resolves with the milliseconds from `since` to the next write that succeeded. */
  async #successAfter(since: number): Promise<number> {
    while (this.#lastSuccess <= since) {
      if (performance.now() - since > RECOVER_MS) throw new Error(`no write has succeeded for ${RECOVER_MS / 1000} s`);
      await delay(20);
    }
    return this.#lastSuccess - since;
  }

  #freezeMs(): number {
    return FREEZE_MS + FREEZE_SPREAD_MS * this.#random();
  }

  #pick<T>(values: readonly T[]): T {
    return values[Math.floor(this.#random() * values.length)]!;
  }
}

async function stop(child: ChildProcess, signal: NodeJS.Signals): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exited = once(child, "exit");
  child.kill(signal);
  await exited;
}
