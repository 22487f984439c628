// The store of a cluster with several managers: etcd. Rows are JSON under PREFIX/rows/KIND/KEY; PREFIX/head has the revision,
// how many rows there are and their digest; PREFIX/leader is the leader's key (etcd-leadership.ts). A commit is one
// transaction (etcd-commit.ts).
import { z } from "zod";
import { type Change, ClusterIdentity } from "../cluster/schema.ts";
import { changesTo, emptyState, type LiveState, parseChanges } from "../cluster/state.ts";
import type { State } from "../cluster/tables.ts";
import type { Clock } from "../lib/clock.ts";
import { counted } from "../lib/counted.ts";
import { messageOf, UserError } from "../lib/errors.ts";
import type { Log } from "../lib/log.ts";
import { type EtcdClient, endOf } from "./etcd-client.ts";
import { bytesOf, ETCD_COMMIT, EtcdCommit } from "./etcd-commit.ts";
import { EtcdError } from "./etcd-error.ts";
import { campaign, type EtcdLeadership } from "./etcd-leadership.ts";
import type { EtcdRow, EtcdWrite } from "./etcd-txn.ts";
import { RowDigests } from "./row-digests.ts";
import { RowTexts } from "./row-texts.ts";
import { CannotLeadError, type Leadership, type Store } from "./store.ts";

const FIRST_ROWS_A_PAGE = 64;
const MOST_ROWS_A_PAGE = 1024;
/** The next page is asked for with more rows when this one has less text. */
const PAGE_BYTES = 2 * 1024 * 1024;
/** How much is written before etcd is told to forget older versions of the rows: its database has a quota. */
const COMPACT_AFTER_BYTES = 32 * 1024 * 1024;

const Head = z.object({
  revision: z.int().min(0),
  rows: z.int().min(0),
  digest: z.string(),
  /** Left out until the state has come whole: the move to etcd is not over, and no manager leads from it. */
  cluster: ClusterIdentity.optional(),
  /** Tells the commit that wrote it from all others. */
  commit: z.string(),
});
type Head = z.infer<typeof Head>;

interface EtcdStoreOptions {
  client: EtcdClient;
  /** What all keys begin with, without a slash at the end. */
  prefix: string;
  /** What seals secrets, see row-texts.ts. */
  sealKey?: string;
  /** What candidates read of this process while it leads. */
  self: string;
  /** How long etcd waits for this process before it lets another one lead; left out: 5. */
  leaseSeconds?: number;
  clock: Clock;
  log: Log;
}

export class EtcdStore implements Store {
  readonly #options: EtcdStoreOptions;
  readonly #rowTexts: RowTexts;
  readonly #keys: { rows: string; head: string; leader: string };
  readonly #closing = new AbortController();
  #campaign: Promise<EtcdLeadership> | undefined;
  #leadership: EtcdLeadership | undefined;
  #leader: string | undefined;
  #digests = new RowDigests();
  #head: Head = emptyHead();
  /** Etcd's revision of head's last change; 0: there is no head. */
  #headRevision = 0;
  #commits = 0;
  #uncompactedBytes = 0;

  constructor(options: EtcdStoreOptions) {
    this.#options = options;
    this.#rowTexts = new RowTexts(options.sealKey);
    const { prefix } = options;
    this.#keys = { rows: `${prefix}/rows/`, head: `${prefix}/head`, leader: `${prefix}/leader` };
  }

  /** What the process that leads says of itself, as this candidate has heard last; undefined: there is none. */
  get leader(): string | undefined {
    return this.#leader;
  }

  async campaign(): Promise<Leadership> {
    const { client, clock, log, self, leaseSeconds } = this.#options;
    await this.#leadership?.resign(); // its own key would keep it waiting
    this.#campaign = campaign({
      ...{ client, clock, log, key: this.#keys.leader, value: self, leaseSeconds, signal: this.#closing.signal },
      heardOf: (leader) => {
        this.#leader = leader;
      },
    });
    this.#leadership = await this.#campaign;
    this.#leader = self;
    return this.#leadership;
  }

  async load(): Promise<LiveState> {
    const { client, prefix } = this.#options;
    const { rows, revision } = await client.range({ key: this.#keys.head });
    const head = rows[0] === undefined ? emptyHead() : this.#headOf(rows[0]);
    const state = emptyState();
    const digests = new RowDigests();
    for await (const page of this.#pages(revision)) {
      digests.apply(new Map(page.map(({ key, value }) => [key, value])));
      state.apply(this.#changesOf(page), head.revision);
    }
    if (digests.rows !== head.rows || digests.digest !== head.digest) {
      const found = `${counted(digests.rows, "row")} of digest ${digests.digest}`;
      throw damaged(prefix, `there are ${found}, and should be ${head.rows} of ${head.digest}`);
    }
    state.revision = head.revision;
    state.cluster = head.cluster ?? null;
    this.#digests = digests;
    this.#head = head;
    this.#headRevision = rows[0]?.modRevision ?? 0;
    return state;
  }

  async commit(changes: readonly Change[], revision: number): Promise<void> {
    const texts = this.#textsOf(changes);
    await this.#write({ ...this.#head, ...this.#digests.after(texts), revision }, writesOf(texts));
    this.#digests.apply(texts);
  }

  async identify(cluster: ClusterIdentity): Promise<void> {
    await this.#write({ ...this.#head, cluster }, []);
  }

  /** Until its last step the head does not fit the rows. */
  async fill(state: State): Promise<void> {
    const texts = this.#textsOf(changesTo(state));
    const digests = new RowDigests();
    digests.apply(texts);
    await this.#write(emptyHead(), [{ remove: this.#keys.rows, end: endOf(this.#keys.rows) }]);
    const { cluster, revision } = state;
    const { rows, digest } = digests;
    const head = { ...emptyHead(), revision, rows, digest, ...(cluster === null ? {} : { cluster }) };
    const pieces = piecesOf(writesOf(texts));
    for (const piece of pieces.slice(0, -1)) await this.#write(emptyHead(), piece);
    await this.#write(head, pieces.at(-1) ?? []);
    this.#digests = digests;
  }

  /** Ends a campaign that goes on. A leader leads on. */
  endCampaign(): void {
    this.#closing.abort(new Error("the store is closed"));
  }

  async close(): Promise<void> {
    this.endCampaign();
    await this.#campaign?.catch(() => {}); // it gives back what it may have begun
    await this.#leadership?.resign();
  }

  /** The rows' JSON by their keys in etcd; null: the row is removed. */
  #textsOf(changes: readonly Change[]): Map<string, string | null> {
    return new Map(
      changes.map(({ kind, key, row }) => [
        `${this.#keys.rows}${kind}/${key}`,
        row === null ? null : this.#rowTexts.encode(kind, row),
      ]),
    );
  }

  /** One transaction with the new head. */
  async #write(next: Head, writes: readonly EtcdWrite[]): Promise<void> {
    const { client, clock, log } = this.#options;
    const leadership = this.#leadership;
    if (leadership === undefined) throw new UserError(503, "this manager does not lead; nothing was changed");
    const head = { ...next, commit: `${leadership.createRevision}-${++this.#commits}` };
    const commit = new EtcdCommit({
      ...{ client, clock, log, leadership, writes, headRevision: this.#headRevision },
      leaderKey: this.#keys.leader,
      headKey: this.#keys.head,
      head: JSON.stringify(head),
    });
    this.#headRevision = await commit.run();
    this.#head = head;
    this.#compactAfter(writes);
  }

  #compactAfter(writes: readonly EtcdWrite[]): void {
    const { client, log } = this.#options;
    for (const write of writes) this.#uncompactedBytes += bytesOf(write);
    if (this.#uncompactedBytes < COMPACT_AFTER_BYTES) return;
    this.#uncompactedBytes = 0;
    client.compact(this.#headRevision).catch((error: unknown) => {
      log.warn("etcd has not forgotten old versions of the state", { reason: messageOf(error) });
    });
  }

  /** All rows as they were at etcd's revision `revision`, some at a time. */
  async *#pages(revision: number): AsyncGenerator<EtcdRow[]> {
    const { client } = this.#options;
    const end = endOf(this.#keys.rows);
    let key = this.#keys.rows;
    let limit = FIRST_ROWS_A_PAGE;
    for (;;) {
      const page = await client.range({ key, end, limit, revision }).catch((error: unknown) => {
        if (error instanceof EtcdError && error.kind === "answer-too-large" && limit > 1) return undefined;
        throw error;
      });
      if (page === undefined) {
        limit = limit >> 1;
        continue;
      }
      yield page.rows;
      if (!page.more) return;
      key = `${page.rows.at(-1)!.key}\0`;
      const bytes = page.rows.reduce((sum, { value }) => sum + value.length, 0);
      if (bytes < PAGE_BYTES) limit = Math.min(MOST_ROWS_A_PAGE, limit * 2);
    }
  }

  #headOf({ value }: EtcdRow): Head {
    try {
      return Head.parse(JSON.parse(value));
    } catch (error) {
      throw damaged(this.#options.prefix, `its head cannot be read: ${wordsOf(error)}`, error);
    }
  }

  #changesOf(rows: readonly EtcdRow[]): Change[] {
    return rows.flatMap(({ key, value }) => {
      const path = key.slice(this.#keys.rows.length);
      const slash = path.indexOf("/");
      try {
        const [kind, rowKey] = [path.slice(0, slash), path.slice(slash + 1)];
        return parseChanges([{ kind, key: rowKey, row: this.#rowTexts.decode(kind, rowKey, value) }]);
      } catch (error) {
        throw damaged(this.#options.prefix, `${path} is no row: ${wordsOf(error)}`, error);
      }
    });
  }
}

function wordsOf(error: unknown): string {
  return error instanceof z.ZodError ? z.prettifyError(error).replaceAll("\n", " ") : messageOf(error);
}

function writesOf(texts: ReadonlyMap<string, string | null>): EtcdWrite[] {
  return [...texts].map(([key, text]) => (text === null ? { remove: key } : { put: key, value: text }));
}

/** The writes in pieces that one commit takes. */
function piecesOf(writes: readonly EtcdWrite[]): EtcdWrite[][] {
  const pieces: EtcdWrite[][] = [];
  let bytes = Number.POSITIVE_INFINITY;
  for (const write of writes) {
    bytes += bytesOf(write);
    if (bytes > ETCD_COMMIT.bytes || pieces.at(-1)?.length === ETCD_COMMIT.rows) {
      pieces.push([]);
      bytes = bytesOf(write);
    }
    pieces.at(-1)!.push(write);
  }
  return pieces;
}

function emptyHead(): Head {
  return { revision: 0, rows: 0, digest: new RowDigests().digest, commit: "" };
}

function damaged(prefix: string, what: string, cause?: unknown): CannotLeadError {
  const mend = "'overlayctl cluster import FILE' makes a cluster of the newest export";
  return new CannotLeadError(`the state under ${prefix} in etcd is damaged: ${what}`, mend, { cause });
}
