// What a manager runs besides: its store, with the leader or a standby's copy of the leader's state.
//
//             .-- its file has the state ---> leads from it ------.
//   chooses --+-- it has etcd --------------> campaigns, leads ---+--> chooses again
//             '-- it has neither -----------> copies the leader --'
import type { ClusterIdentity } from "../cluster/schema.ts";
import type { State } from "../cluster/tables.ts";
import type { AuthorityRotations } from "../leader/authority-rotations.ts";
import { type EmbeddedStore, hasStore, type MovedTo, openEmbeddedStore } from "../leader/embedded-store.ts";
import type { EtcdStore } from "../leader/etcd-store.ts";
import type { Leader } from "../leader/leader.ts";
import type { PeerCalls } from "../leader/peer-calls.ts";
import type { StateCopy } from "../leader/state-copy.ts";
import type { Store } from "../leader/store.ts";
import { delay, systemClock } from "../lib/clock.ts";
import { MisdirectedError, messageOf, UserError } from "../lib/errors.ts";
import { RepeatedReasons } from "../lib/repeated-reasons.ts";
import { standForLeader } from "./candidacy.ts";
import { type Copying, copyLeader, takeOverCopy } from "./copying.ts";
import { type EtcdAccess, externalEtcd, identityIn, isGivenTo, ownEtcd } from "./etcd-access.ts";
import type { EtcdMember } from "./etcd-member.ts";
import { type Leading, lead } from "./leading.ts";
import { type ManagerOptions, NO_LEADER, requireOtherManager, type StoreKind } from "./manager-options.ts";
import { createOwnMember } from "./own-member.ts";
import { pathsOf } from "./paths.ts";
import { recoverAlone } from "./recover.ts";
import type { StoreMembers } from "./store-members.ts";
import { findSuccessor, giveWayTo } from "./successor.ts";

const RETRY_MS = 1000;

export class Manager {
  readonly member: EtcdMember;
  readonly #options: ManagerOptions;
  readonly #stopping = new AbortController();
  #run: Promise<void> = Promise.resolve();
  #leading: Leading | undefined;
  #kind: StoreKind = "copy";
  #whyNot: string | undefined;
  readonly #reasons = new RepeatedReasons(systemClock);
  #copying: Copying | undefined;
  #candidate: EtcdStore | undefined;
  /** Whether etcd has not answered lately: the leader that it named may be gone. */
  #isCutOff = false;
  #access: EtcdAccess | undefined;
  /** Aborted to choose again. */
  #turn = new AbortController();
  /** Nothing is chosen while this is there. */
  #paused: Promise<void> | undefined;
  #settle: () => void = () => {};

  constructor(options: ManagerOptions) {
    this.#options = options;
    this.member = createOwnMember(options);
  }

  /** undefined: it does not lead. */
  get leader(): Leader | undefined {
    return this.#leading?.leader;
  }

  /** The changes of the CAs, which the leader carries out. */
  get rotations(): AuthorityRotations | undefined {
    return this.#leading?.rotations;
  }

  /** Why it neither leads nor stands by; undefined: it does. */
  get whyNot(): string | undefined {
    return this.#whyNot;
  }

  get kind(): StoreKind {
    return this.#kind;
  }

  /** What a standby has copied; undefined: it copies nothing. */
  get copy(): StateCopy | undefined {
    return this.#copying?.copy;
  }

  /** The way to etcd; undefined: this manager has none. */
  get access(): EtcdAccess | undefined {
    return this.members?.openedAccess ?? this.#access;
  }

  /** What the leader does about the members of etcd; undefined: it does not lead. */
  get members(): StoreMembers | undefined {
    return this.#leading?.members;
  }

  /** HOST:PORT of the leader, as far as it is known. */
  get leaderAddress(): string | undefined {
    const { self, followed } = this.#options;
    return this.#leading === undefined ? (this.#candidate?.leader ?? followed()) : self;
  }

  /** The leader in this process. Throws MisdirectedError that names another one, and UserError 503 when there is none. */
  requireLeader(): Leader {
    if (this.#leading !== undefined) return this.#leading.leader;
    const address = this.#isCutOff ? undefined : this.leaderAddress;
    if (address !== undefined && address !== this.#options.self) throw new MisdirectedError([address]);
    throw new UserError(503, this.#whyNot ?? NO_LEADER[this.#kind]);
  }

  /** What nodes and users ask of the leader. Throws as requireLeader does. */
  requireCalls(): PeerCalls {
    this.requireLeader();
    return this.#leading!.calls;
  }

  /** Resolves when this manager leads, or has found that it does not. */
  async start(): Promise<void> {
    const settled = new Promise<void>((resolve) => {
      this.#settle = resolve;
    });
    this.#run = this.#follow();
    await settled;
  }

  /** Another manager may lead at once. Etcd goes on running. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    this.#turn.abort();
    await this.#run;
    await this.member.leave();
  }

  /** The state is in etcd from now on. */
  movedToEtcd(): void {
    this.#kind = this.#options.config.cluster.etcd.endpoints === undefined ? "etcd" : "external etcd";
  }

  /** Leads from the copy from now on. Resolves with what it has. Throws UserError when there is no copy. */
  async takeOver(epoch: number): Promise<{ revision: number; epoch: number }> {
    const copying = this.#copying;
    if (copying === undefined) throw new UserError(409, "this manager has no copy of the state to lead from");
    return takeOverCopy(copying, this.#options, epoch).finally(() => this.#turn.abort());
  }

  /** The whole state as a standby has copied it; undefined: it has not. */
  async copiedState(): Promise<State | undefined> {
    const state = await this.#copying?.store.load();
    return state?.cluster == null ? undefined : state;
  }

  /** Leads alone with what this manager's etcd has, in a new epoch. Resolves when etcd has taken that. */
  async recover(epoch: number): Promise<{ revision: number; epoch: number }> {
    // This manager's own campaign would win before the epoch is a new one.
    let resume: () => void = () => {};
    this.#paused = new Promise((resolve) => {
      resume = resolve;
    });
    this.#turn.abort();
    try {
      return await recoverAlone(this.#options, this.member, { epoch, signal: this.#stopping.signal });
    } finally {
      resume();
      this.#paused = undefined;
    }
  }

  /** Ends what it does now, and chooses again. A leader leads on. */
  chooseAgainUnlessLeading(): void {
    if (this.#leading === undefined) this.#turn.abort();
  }

  async #follow(): Promise<void> {
    const { signal } = this.#stopping;
    while (!signal.aborted) {
      await this.#paused;
      this.#turn = new AbortController();
      try {
        await this.#choose();
        this.#whyNot = undefined;
      } catch (error) {
        const reason = messageOf(error);
        // An etcd that comes and goes has it stand for leader in between.
        if (!this.#turn.signal.aborted && this.#reasons.isNews(reason))
          this.#options.log.error("this node does not lead, and runs from its snapshot", { reason });
        this.#whyNot = reason;
        this.#settle();
        await delay(systemClock, RETRY_MS, AbortSignal.any([signal, this.#turn.signal]));
      }
    }
    this.#settle();
  }

  /** It does what it is to do: leads, stands for leader, or copies. */
  #standsBy(): void {
    this.#whyNot = undefined;
    this.#settle();
  }

  async #choose(): Promise<void> {
    const { config, ring } = this.#options;
    const path = pathsOf(config).store;
    const file = (await hasStore(path)) ? await openEmbeddedStore(path, ring.keys.sealKey) : undefined;
    try {
      if (file !== undefined && file.moved === undefined) return await this.#leadFile(file);
      this.#access = await this.#openEtcd();
      if (this.#access === undefined) {
        requireOtherManager(this.#options);
        return await this.#copyLeader();
      }
      await this.#campaign(this.#access, file?.moved);
    } finally {
      this.#access?.close();
      this.#access = undefined;
      await file?.close();
    }
  }

  async #openEtcd(): Promise<EtcdAccess | undefined> {
    const { endpoints, ...etcd } = this.#options.config.cluster.etcd;
    if (endpoints !== undefined) return externalEtcd({ endpoints, ...etcd });
    return (await this.member.resumeIfThere()) ? ownEtcd(this.member) : undefined;
  }

  async #leadFile(file: EmbeddedStore): Promise<void> {
    this.#kind = "file";
    const { cluster } = await file.load();
    const successor = cluster === null ? undefined : await findSuccessor(this.#options, cluster);
    if (successor !== undefined) return giveWayTo(this.#options, file, successor, undefined);
    const found = await this.#lead(file, file);
    if (found !== undefined && file.moved === undefined)
      await giveWayTo(this.#options, file, found.successor, found.leader);
  }

  /** `moved`: where this manager's own file gave its state. */
  async #campaign(access: EtcdAccess, moved: MovedTo | undefined): Promise<void> {
    // An etcd that was begun after that one, and has no state yet, is not the one that the file means.
    const given = moved !== undefined && (await isGivenTo(access, moved)) ? moved.cluster : undefined;
    // What etcd says is newer than what this manager's file gave to it.
    const cluster = (await this.#clusterIn(access)) ?? given;
    // The move to it is not over, or too few members are well.
    if (cluster === undefined) return this.#copyLeader(access, moved);
    this.movedToEtcd();
    await standForLeader({
      ...{ options: this.#options, access, cluster, given, signal: this.#turn.signal },
      begun: (candidate) => {
        this.#candidate = candidate;
        this.#standsBy();
      },
      heard: (answers) => {
        this.#isCutOff = !answers;
      },
      ended: () => {
        this.#isCutOff = false;
        this.#candidate = undefined;
      },
      lead: (store) => this.#lead(store, undefined),
    });
  }

  /** Which cluster's state etcd has; undefined: none yet, and the copy of it counts, or etcd does not answer. */
  async #clusterIn(access: EtcdAccess): Promise<ClusterIdentity | undefined> {
    try {
      const cluster = await identityIn(access, this.#options.identity.clusterId);
      if (cluster === undefined) this.#kind = "copy";
      else this.movedToEtcd();
      return cluster;
    } catch {
      this.movedToEtcd();
      return undefined;
    }
  }

  #lead(store: Store, file: EmbeddedStore | undefined): ReturnType<typeof lead> {
    return lead({
      ...{ options: this.#options, manager: this, store, file, signal: this.#turn.signal },
      begun: (leading) => {
        this.#leading = leading;
        this.#standsBy();
      },
      ended: () => {
        this.#leading = undefined;
      },
    });
  }

  /** Copies until this manager is told to take over, or etcd has the state. */
  #copyLeader(access?: EtcdAccess, moved?: MovedTo): Promise<void> {
    if (access === undefined) this.#kind = "copy";
    return copyLeader({
      ...{ options: this.#options, signal: this.#turn.signal },
      begun: (copying) => {
        this.#copying = copying;
        this.#standsBy();
      },
      ended: () => {
        this.#copying = undefined;
      },
      isOver: async () => {
        if (access === undefined) return false;
        const hasState = (await this.#clusterIn(access)) !== undefined;
        return hasState || (moved !== undefined && (await isGivenTo(access, moved)));
      },
    });
  }
}
