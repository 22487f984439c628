// What this machine keeps of the cluster's state, for the next agent and for times without a leader: a snapshot on the disk,
// the secrets apart from it, and where managers are.
import { type StateVersion, versionOf } from "../cluster/identity.ts";
import { sameName } from "../cluster/lookup.ts";
import type { AppliedChange } from "../cluster/state.ts";
import type { State } from "../cluster/tables.ts";
import type { Clock } from "../lib/clock.ts";
import type { Log } from "../lib/log.ts";
import type { ManagerList } from "./manager-list.ts";
import type { SecretFiles } from "./secret-files.ts";
import { readSnapshot, type StoredSnapshot } from "./snapshot-file.ts";
import { SnapshotWriter } from "./snapshot-writer.ts";

interface KeptStateOptions {
  snapshotPath: string;
  /** Left out: secrets are kept in this process alone. */
  secrets?: SecretFiles | undefined;
  managers: ManagerList;
  /** The name of this node. */
  nodeName: string;
  clock: Clock;
  log: Log;
  /** The newest state, which is changed in place. */
  live: State;
}

export class KeptState {
  readonly #options: KeptStateOptions;
  readonly #writer: SnapshotWriter;
  #storedVersion: StateVersion | undefined;

  constructor(options: KeptStateOptions) {
    const { snapshotPath, clock, log, live } = options;
    this.#options = options;
    this.#writer = new SnapshotWriter({ path: snapshotPath, clock, log, state: live });
  }

  /** The version of the snapshot that was read, also of another node's; undefined: there was none. */
  get storedVersion(): StateVersion | undefined {
    return this.#storedVersion;
  }

  /** What was kept, with its secrets; undefined: nothing, or another node's state. Called before anything has changed. */
  async read(): Promise<StoredSnapshot | undefined> {
    const { snapshotPath, secrets, managers, nodeName, log } = this.#options;
    const stored = await readSnapshot(snapshotPath, log);
    if (stored === undefined) return undefined;
    const { nodeId, state } = stored;
    state.apply((await secrets?.restore(state)) ?? [], state.revision);
    this.#storedVersion = versionOf(state);
    const name = state.nodes.get(nodeId)?.name;
    if (!sameName(name ?? null, nodeName)) {
      log.warn("the snapshot on disk is another node's and is not used", { node: name ?? nodeId });
      return undefined;
    }
    managers.update(state);
    this.#writer.continue(stored);
    return stored;
  }

  /** The newest state has changed by `changes`, or has another revision or identity. */
  changed(nodeId: string, changes: readonly AppliedChange[]): void {
    const { secrets, managers, live } = this.#options;
    secrets?.changed(changes);
    this.#writer.changed(nodeId, changes);
    if (changes.some(({ kind }) => kind === "nodes")) managers.update(live);
  }

  /** The newest state is one that a leader sent as a whole: secrets that this node may not have any more go. */
  replaced(): void {
    this.#options.secrets?.keepOnly(this.#options.live);
  }

  /** Resolves when the newest state is kept and nothing is being written any more. */
  async stop(): Promise<void> {
    await this.#writer.stop();
    await this.#options.secrets?.settled();
  }
}
