// One commit to etcd: a transaction that is sent until its outcome is known, or this process leads no longer. It compares the
// leader key's create revision and head's last change. So it is done once at most, though it may be sent several times:
//
//   sent --succeeded--> done
//     |--compare failed; head is this commit's--> done (an earlier sending was, and its answer was lost)
//     |--no space; head is this commit's--> done (etcd's quota was used up by it)
//     |--compare failed; the leader key is another's--> leads no longer, nothing was changed
//     '--no answer--> sent again; without leadership: head is read, which may leave the outcome unknown

import { Backoff } from "../lib/backoff.ts";
import { type Clock, delay } from "../lib/clock.ts";
import { counted } from "../lib/counted.ts";
import { messageOf, UserError } from "../lib/errors.ts";
import type { Log } from "../lib/log.ts";
import type { EtcdClient } from "./etcd-client.ts";
import { EtcdError } from "./etcd-error.ts";
import type { EtcdLeadership } from "./etcd-leadership.ts";
import type { EtcdRow, EtcdTxn, EtcdWrite } from "./etcd-txn.ts";

/** What an etcd of this cluster is started with: --max-txn-ops and --max-request-bytes. One commit is one transaction. */
export const ETCD_LIMITS = { txnOps: 65_536, requestBytes: 8 * 1024 * 1024 } as const;

/** What one commit has at most: the head and the request itself need room, too. */
export const ETCD_COMMIT = { rows: ETCD_LIMITS.txnOps - 1, bytes: ETCD_LIMITS.requestBytes - 4096 } as const;

/** Bytes of a write besides its key and value. */
const WRITE_BYTES = 32;
/** How long one sending may take. It ends with the leadership, too. */
const SENDING_MS = 15_000;
/** How long a commit is sent again while etcd answers keep-alives and not this. */
const TRY_MS = 20_000;
const FIRST_PAUSE_MS = 50;
const LONGEST_PAUSE_MS = 500;
/** How long a process asks what became of its commit. */
const INQUIRE_MS = 1500;

interface EtcdCommitOptions {
  client: EtcdClient;
  clock: Clock;
  log: Log;
  leadership: EtcdLeadership;
  leaderKey: string;
  headKey: string;
  /** Etcd's revision of head's last change; 0: there is no head yet. */
  headRevision: number;
  /** The text of the new head. No other commit has the same. */
  head: string;
  writes: readonly EtcdWrite[];
}

type Outcome = { headRevision: number } | "nothing changed" | "not known";

export class EtcdCommit {
  readonly #options: EtcdCommitOptions;
  readonly #txn: EtcdTxn;
  /** Whether etcd may have kept it, or may do so yet. */
  #isOpen = false;
  #failure: unknown;

  /** Throws UserError 413. */
  constructor(options: EtcdCommitOptions) {
    const { writes, leadership, leaderKey, headKey, headRevision, head } = options;
    requireSize(writes);
    this.#options = options;
    this.#txn = {
      compare: [
        { key: leaderKey, createRevision: leadership.createRevision },
        { key: headKey, modRevision: headRevision },
      ],
      writes: [...writes, { put: headKey, value: head }],
      otherwise: [leaderKey, headKey],
    };
  }

  /** Etcd's revision of the new head. Throws UserError 503 or 507 when nothing was changed, and 504 when that is not known. */
  async run(): Promise<number> {
    const { leadership, clock } = this.#options;
    const until = clock.monotonic() + TRY_MS;
    const pauses = new Backoff(FIRST_PAUSE_MS, LONGEST_PAUSE_MS);
    while (!leadership.lost.aborted && clock.monotonic() < until) {
      const headRevision = await this.#send();
      if (headRevision !== undefined) return headRevision;
      await delay(clock, pauses.failed(), leadership.lost);
    }
    return this.#giveUp();
  }

  /** Etcd's revision of the new head, or undefined: it is to be sent again. */
  async #send(): Promise<number | undefined> {
    const { client, leadership, log } = this.#options;
    try {
      const options = { timeoutMs: SENDING_MS, signal: leadership.lost };
      const { succeeded, revision, rows } = await client.txn(this.#txn, options);
      if (succeeded) return revision;
      return this.#refused(rows);
    } catch (error) {
      if (!(error instanceof EtcdError)) throw error;
      if (error.kind === "no-space") return this.#foundNoSpace(error);
      if (!error.hasChangedNothing) this.#isOpen = true;
      else if (error.kind !== "unreachable" && !this.#isOpen) throw refusalOf(error);
      if (this.#failure === undefined) log.warn("a commit is sent to etcd again", { reason: error.message });
      this.#failure = error;
      return undefined;
    }
  }

  /**
   * Etcd refuses a transaction for which its quota has no room, but carries out the one with which it finds that the quota is
   * used up, and answers the same. The head tells which one this was.
   */
  async #foundNoSpace(error: EtcdError): Promise<number | undefined> {
    const { headKey, headRevision, head } = this.#options;
    const rows = await this.#read().catch(() => undefined);
    const found = rows?.find(({ key }) => key === headKey);
    if (found?.value === head) return found.modRevision;
    const isAsBefore = rows !== undefined && (found?.modRevision ?? 0) === headRevision;
    if (isAsBefore && !this.#isOpen) throw refusalOf(error);
    this.#isOpen = true;
    this.#failure = error;
    return undefined;
  }

  /** One of the compares did not hold. */
  #refused(rows: readonly EtcdRow[]): number | undefined {
    const { leadership, leaderKey } = this.#options;
    const outcome = this.#outcomeIn(rows);
    if (typeof outcome === "object") return outcome.headRevision;
    const leader = rows.find(({ key }) => key === leaderKey);
    const leadsStill = leader?.createRevision === leadership.createRevision;
    const reason = leadsStill ? "another process has changed the state in etcd" : "another manager may lead";
    this.#isOpen &&= outcome === "not known";
    this.#failure = new Error(reason);
    leadership.lose(`etcd refused a commit: ${reason}`);
    return undefined;
  }

  /** What became of this commit, by what etcd has. Another leader may have committed since, over this one or not. */
  #outcomeIn(rows: readonly EtcdRow[]): Outcome {
    const { leadership, leaderKey, headKey, headRevision, head } = this.#options;
    const [leader, found] = [leaderKey, headKey].map((key) => rows.find((row) => row.key === key));
    if (found?.value === head) return { headRevision: found.modRevision };
    if (leader?.createRevision === leadership.createRevision) return "not known";
    return (found?.modRevision ?? 0) === headRevision ? "nothing changed" : "not known";
  }

  /** This process leads no longer, or has to give up. */
  async #giveUp(): Promise<number> {
    const { leadership } = this.#options;
    const outcome = this.#isOpen ? await this.#inquire() : "nothing changed";
    if (typeof outcome === "object") return outcome.headRevision;
    if (outcome === "not known") leadership.lose("it is not known whether its last commit was kept");
    const why = messageOf(this.#failure ?? leadership.lost.reason);
    if (outcome === "nothing changed") {
      throw new UserError(503, `the state could not be written, and nothing was changed: ${why}`, {
        cause: this.#failure,
      });
    }
    const words = "it is not known whether the change was made: look before you ask for it again";
    throw new UserError(504, `${words} (${why})`, { cause: this.#failure });
  }

  async #inquire(): Promise<Outcome> {
    try {
      return this.#outcomeIn(await this.#read());
    } catch {
      return "not known";
    }
  }

  /** The head and the leader key at one revision. Etcd answers also when its quota is used up. */
  async #read(): Promise<readonly EtcdRow[]> {
    const { client, leaderKey, headKey } = this.#options;
    const [first, last] = [headKey, leaderKey].toSorted();
    const { rows } = await client.range({ key: first!, end: `${last}\0` }, { timeoutMs: INQUIRE_MS });
    return rows;
  }
}

/** Bytes of the write in a request. */
export function bytesOf(write: EtcdWrite): number {
  const [key, text] = "put" in write ? [write.put, write.value] : [write.remove, ""];
  return WRITE_BYTES + Buffer.byteLength(key) + Buffer.byteLength(text);
}

/** Before it is sent: etcd would refuse it after it has been sent whole. Throws UserError 413. */
function requireSize(writes: readonly EtcdWrite[]): void {
  const { rows: mostRows, bytes: mostBytes } = ETCD_COMMIT;
  const bytes = writes.reduce((sum, write) => sum + bytesOf(write), 0);
  if (writes.length <= mostRows && bytes <= mostBytes) return;
  throw new UserError(
    413,
    `the change is too large for etcd: ${counted(writes.length, "row")} with ${counted(bytes, "byte")}, and one change has at most ${mostRows} rows and ${mostBytes} bytes; nothing was changed (ask for it in several steps)`,
  );
}

/** The error of a commit that etcd has certainly not kept. */
function refusalOf(error: EtcdError): UserError {
  const words = `${error.message}; nothing was changed`;
  const code = error.kind === "no-space" ? 507 : error.kind === "too-large" ? 413 : 503;
  return new UserError(code, words, { cause: error });
}
