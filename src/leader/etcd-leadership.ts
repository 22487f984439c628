// Leadership by a key of etcd that lives as long as a lease. It is certain for the fence's time after the last keep-alive that
// etcd answered was sent, which is less than the lease's time; then this process gives itself up, whatever etcd says later.
//
//   candidate --(leader key is missing; Txn makes it)--> leading --(lease over, no answer in time, resigned)--> lost
import { type Clock, delay, type Timer } from "../lib/clock.ts";
import { messageOf } from "../lib/errors.ts";
import type { Log } from "../lib/log.ts";
import type { EtcdClient } from "./etcd-client.ts";
import { EtcdError } from "./etcd-error.ts";
import type { Leadership } from "./store.ts";

/** How long etcd waits for a keep-alive before it lets another process lead. */
const LEASE_SECONDS = 5;
/** Milliseconds for each second of the lease: with 5 s, a keep-alive each second and a fence of 3 s. */
const KEEP_ALIVE_MS_A_SECOND = 200;
const FENCE_MS_A_SECOND = 600;
/** The next attempt after a keep-alive that failed. */
const AGAIN_MS = 200;
/** How often a candidate looks whether there is a leader. */
const LOOK_MS = 250;
const RESIGN_MS = 1000;

interface EtcdLeadershipOptions {
  client: EtcdClient;
  clock: Clock;
  key: string;
  lease: string;
  leaseSeconds: number;
  /** Etcd's revision at which this process made the key: it tells this leadership from all others. */
  createRevision: number;
  /** Monotonic time before the lease was asked for. */
  since: number;
}

export class EtcdLeadership implements Leadership {
  readonly #options: EtcdLeadershipOptions;
  readonly #lost = new AbortController();
  /** When the last keep-alive that etcd answered was sent. */
  #confirmedAt: number;
  #fence: Timer;
  #failure = "";

  constructor(options: EtcdLeadershipOptions) {
    this.#options = options;
    this.#confirmedAt = options.since;
    this.#fence = this.#setFence();
    void this.#keepAlive();
  }

  get lost(): AbortSignal {
    return this.#lost.signal;
  }

  get createRevision(): number {
    return this.#options.createRevision;
  }

  isCertain(): boolean {
    return !this.lost.aborted && this.#fenceInMs() > 0;
  }

  /** This process has found out that it does not lead, or must not. */
  lose(reason: string, cause?: unknown): void {
    this.#fence.cancel();
    this.#lost.abort(new Error(reason, { cause }));
  }

  async resign(): Promise<void> {
    const { client, lease } = this.#options;
    this.lose("it has given the leadership back");
    await client.revokeLease(lease, { timeoutMs: RESIGN_MS }).catch(() => {}); // then it ends by itself
  }

  get #fenceMs(): number {
    return this.#options.leaseSeconds * FENCE_MS_A_SECOND;
  }

  #fenceInMs(): number {
    return this.#confirmedAt + this.#fenceMs - this.#options.clock.monotonic();
  }

  #setFence(): Timer {
    return this.#options.clock.after(Math.max(0, this.#fenceInMs()), () => {
      // An answer that came while the thread was busy still counts.
      setImmediate(() => {
        if (this.lost.aborted) return;
        if (this.#fenceInMs() > 0) this.#fence = this.#setFence();
        else this.lose(`etcd has confirmed it for ${this.#fenceMs / 1000} s no more${this.#failure}`);
      });
    });
  }

  async #keepAlive(): Promise<void> {
    const { client, clock, lease, leaseSeconds } = this.#options;
    const everyMs = leaseSeconds * KEEP_ALIVE_MS_A_SECOND;
    while (!this.lost.aborted) {
      const sentAt = clock.monotonic();
      let pauseMs = everyMs;
      try {
        const seconds = await client.keepAlive(lease, { timeoutMs: everyMs, signal: this.lost });
        if (seconds <= 0) return this.lose("its lease in etcd is over");
        this.#confirmedAt = sentAt;
        this.#failure = "";
      } catch (error) {
        if (error instanceof EtcdError && error.kind === "not-found") return this.lose("its lease in etcd is over");
        this.#failure = `: ${messageOf(error)}`;
        pauseMs = AGAIN_MS;
      }
      await delay(clock, Math.max(0, sentAt + pauseMs - clock.monotonic()), this.lost);
    }
  }
}

interface CampaignOptions {
  client: EtcdClient;
  clock: Clock;
  log: Log;
  key: string;
  /** What others read of the leader. */
  value: string;
  leaseSeconds?: number;
  /** Ends the campaign. */
  signal: AbortSignal;
  /** Called with what the leader key has at each look; undefined: there is no leader. */
  heardOf(leader: string | undefined): void;
}

/** Resolves when this process leads. Rejects when `signal` aborts. */
export async function campaign(options: CampaignOptions): Promise<EtcdLeadership> {
  const { client, clock, log, key, signal, heardOf } = options;
  let problem = "";
  for (;;) {
    signal.throwIfAborted();
    try {
      const [leader] = (await client.range({ key }, { signal })).rows;
      heardOf(leader?.value);
      const won = leader === undefined ? await tryOnce(options) : undefined;
      if (won !== undefined) return won;
      problem = "";
    } catch (error) {
      signal.throwIfAborted();
      if (problem !== messageOf(error)) log.warn("cannot stand for leader", { reason: messageOf(error) });
      problem = messageOf(error);
    }
    await delay(clock, LOOK_MS, signal);
  }
}

/** undefined: another process was first. */
async function tryOnce(options: CampaignOptions): Promise<EtcdLeadership | undefined> {
  const { client, clock, key, value, leaseSeconds = LEASE_SECONDS, signal } = options;
  const since = clock.monotonic();
  const lease = await client.grantLease(leaseSeconds, { signal });
  try {
    const { succeeded, revision: createRevision } = await client.txn(
      { compare: [{ key, createRevision: 0 }], writes: [{ put: key, value, lease }], otherwise: [] },
      { signal },
    );
    if (succeeded) return new EtcdLeadership({ client, clock, key, lease, leaseSeconds, createRevision, since });
  } catch (error) {
    await revoke(); // the key may have been made
    throw error;
  }
  await revoke();
  return undefined;

  async function revoke(): Promise<void> {
    await client.revokeLease(lease, { timeoutMs: RESIGN_MS }).catch(() => {}); // then it ends by itself
  }
}
