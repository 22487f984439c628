// Three managers with an etcd of three members, each manager on its own, while writers and readers ask them and processes are
// killed, frozen and stopped. What clients saw is judged by history.ts.
import { setTimeout as delay } from "node:timers/promises";
import { EtcdStore } from "../../src/leader/etcd-store.ts";
import { systemClock } from "../../src/lib/clock.ts";
import { messageOf } from "../../src/lib/errors.ts";
import { silentLog } from "../../src/lib/log.ts";
import { newId } from "../../src/lib/random.ts";
import { found, SEAL_KEY } from "../fakes/founding.ts";
import { seededRandom } from "../fakes/seeded-random.ts";
import { identityOf } from "../leader/fake-node.ts";
import { TestEtcd } from "../leader/test-etcd.ts";
import { type Final, History, judge, type Operation } from "./history.ts";
import { LateLink } from "./late-link.ts";
import { ManagerProcess } from "./manager-process.ts";

const PREFIX = "/chaos";
const MANAGERS = 3;
const WRITERS = 3;
const READERS = 4;
/** How often a writer asks any manager. */
const ELSEWHERE = 0.2;
/** How long after a fault a write may take to succeed before the run has failed. */
const RECOVER_MS = 120_000;
const FREEZE_MS = 5000;
const FREEZE_SPREAD_MS = 4000;

export const FAULTS = [
  ...(["leader killed", "leader and its etcd killed", "leader stopped", "leader frozen", "etcd killed"] as const),
  ...(["leader's etcd frozen", "leader's requests late"] as const),
] as const;
export type Fault = (typeof FAULTS)[number];

interface ChaosOptions {
  /** How many. */
  faults: number;
  seed: number;
  /** Left out: all kinds. */
  kinds?: readonly Fault[];
  log?: (line: string) => void;
}

export interface ChaosOutcome {
  operations: readonly Operation[];
  final: Final;
  violations: string[];
  acknowledged: number;
  reads: number;
  /** Milliseconds from each fault to the next write that succeeded, by fault. */
  recoveries: Map<Fault, number[]>;
}

export class Chaos {
  readonly #etcd: TestEtcd;
  readonly #history = new History();
  readonly #managers: ManagerProcess[] = [];
  /** Each manager's way to its member of etcd. */
  readonly #links: LateLink[] = [];
  readonly #random: () => number;
  readonly #log: (line: string) => void;
  readonly #recoveries = new Map<Fault, number[]>();
  #isOver = false;
  /** The manager that has answered last. */
  #leader = 0;
  #lastSuccess = 0;

  private constructor(etcd: TestEtcd, seed: number, log: (line: string) => void) {
    this.#etcd = etcd;
    this.#random = seededRandom(seed);
    this.#log = log;
  }

  /** Does the faults, and judges what clients saw. */
  static async run({ faults, seed, kinds = FAULTS, log = () => {} }: ChaosOptions): Promise<ChaosOutcome> {
    const chaos = new Chaos(await TestEtcd.start({ members: MANAGERS }), seed, log);
    try {
      return await chaos.#run(faults, kinds);
    } finally {
      chaos.#isOver = true;
      for (const manager of chaos.#managers) manager.signal("SIGKILL");
      for (const link of chaos.#links) link.close();
      await chaos.#etcd.remove();
    }
  }

  async #run(faults: number, kinds: readonly Fault[]): Promise<ChaosOutcome> {
    await this.#found();
    for (const endpoint of this.#etcd.endpoints) this.#links.push(await LateLink.open(endpoint));
    for (let i = 0; i < MANAGERS; i++) this.#launch(i);
    const clients = [
      ...Array.from({ length: WRITERS }, (_, i) => this.#client(`w${i}`, true)),
      ...Array.from({ length: READERS }, (_, i) => this.#client(`r${i}`, false)),
    ];
    const problem = await this.#doFaults(faults, kinds).then(() => undefined, messageOf);
    this.#isOver = true;
    await Promise.all(clients);
    for (const manager of this.#managers) await manager.end("SIGTERM");
    const { operations } = this.#history;
    const ok = operations.filter(({ outcome }) => outcome === "ok");
    const final = await this.#final().catch(messageOf);
    const judged = typeof final === "string" ? [`the store cannot be read: ${final}`] : judge(operations, final);
    return {
      operations,
      final: typeof final === "string" ? { revision: 0, values: new Set() } : final,
      violations: problem === undefined ? judged : [problem, ...judged],
      acknowledged: ok.filter(({ value }) => value !== undefined).length,
      reads: ok.filter(({ value }) => value === undefined).length,
      recoveries: this.#recoveries,
    };
  }

  async #doFaults(faults: number, kinds: readonly Fault[]): Promise<void> {
    await this.#successAfter(performance.now());
    for (let i = 0; i < faults; i++) await this.#fault(this.#pick(kinds));
    await delay(1000);
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
    this.#managers[i] = new ManagerProcess({
      ...{ name: `m${i}`, endpoint: this.#links[i]!.endpoint, tls: this.#etcd.tls, prefix: PREFIX },
    });
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
      const outcome = await this.#managers[asked]!.ask(value, ({ outcome, seen, revision = 0, term = "" }) => {
        end(outcome, { revision, term, ...(seen === undefined ? {} : { seen: new Set(seen) }) });
      });
      if (outcome !== "ok" && asked === at) at = (at + 1) % MANAGERS;
      if (outcome === "ok" && isWriter) {
        at = asked;
        this.#leader = at;
        this.#lastSuccess = performance.now();
      }
      await delay(isWriter ? 100 : 50);
    }
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
    const manager = this.#managers[leader]!;
    switch (fault) {
      case "leader killed":
        await manager.end("SIGKILL");
        return async () => this.#launch(leader);
      case "leader stopped":
        await manager.end("SIGTERM");
        return async () => this.#launch(leader);
      case "leader and its etcd killed":
        await Promise.all([manager.end("SIGKILL"), etcd.kill(leader)]);
        return async () => {
          etcd.launch(leader);
          await etcd.ready(leader);
          this.#launch(leader);
        };
      case "leader frozen": {
        manager.signal("SIGSTOP");
        const thawed = delay(this.#freezeMs()).then(() => manager.signal("SIGCONT"));
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
      case "leader's requests late": {
        const link = this.#links[leader]!;
        link.holdUp();
        return async () => {
          await this.#otherLeads(leader);
          link.release();
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

  /** Resolves when a write succeeded through another manager last. */
  async #otherLeads(than: number): Promise<void> {
    const since = performance.now();
    while (this.#leader === than) {
      if (performance.now() - since > RECOVER_MS) throw new Error(`m${than} leads on, though etcd does not hear it`);
      await delay(20);
    }
  }

  #freezeMs(): number {
    return FREEZE_MS + FREEZE_SPREAD_MS * this.#random();
  }

  #pick<T>(values: readonly T[]): T {
    return values[Math.floor(this.#random() * values.length)]!;
  }
}
