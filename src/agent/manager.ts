// What a manager runs besides: its store, with the leader or a standby's copy of the leader's state.
//
//             .-- its file has the state ---> leads from it ------.
//   chooses --+-- it has etcd --------------> campaigns, leads ---+--> chooses again
//             '-- it has neither -----------> copies the leader --'
import { settingsOf } from "../cluster/lookup.ts";
import type { ClusterIdentity, Node } from "../cluster/schema.ts";
import type { State } from "../cluster/tables.ts";
import { AuthorityRotation } from "../leader/authority-rotation.ts";
import { type EmbeddedStore, hasStore, openEmbeddedStore } from "../leader/embedded-store.ts";
import type { EtcdStore } from "../leader/etcd-store.ts";
import { Leader } from "../leader/leader.ts";
import { PeerCalls } from "../leader/peer-calls.ts";
import { StateCopy } from "../leader/state-copy.ts";
import { CannotLeadError, type Store } from "../leader/store.ts";
import { delay, systemClock } from "../lib/clock.ts";
import { MisdirectedError, messageOf, UserError } from "../lib/errors.ts";
import { newId } from "../lib/random.ts";
import { STORE_PEER_PORT } from "../lib/standard-ports.ts";
import {
  type EtcdAccess,
  etcdStore,
  externalEtcd,
  identityIn,
  openedStore,
  ownEtcd,
  untilReady,
  watchAnswers,
} from "./etcd-access.ts";
import { EtcdMember } from "./etcd-member.ts";
import { leaderConfig, type ManagerOptions, requireOtherManager, type StoreKind } from "./manager-options.ts";
import { pathsOf } from "./paths.ts";
import { StoreMembers } from "./store-members.ts";
import { findSuccessor, giveWayTo, SuccessorWatch } from "./successor.ts";

const RETRY_MS = 1000;
const LOOK_MS = 500;
const RECOVER_MS = 60_000;

/** Why there is no leader, by what the managers share, and what a person may type. */
const NO_LEADER: Record<StoreKind, string> = {
  file: "this manager does not lead yet",
  etcd: "no manager leads: fewer than a majority of the managers' etcd answers, or they are choosing. 'overlayctl cluster status' shows which; if a majority is gone for good, 'overlayctl cluster recover' on one that lives",
  "external etcd":
    "no manager leads: the external etcd of cluster.etcd.endpoints does not answer, or the managers are choosing",
  copy: "this manager is a standby, and no manager leads. If the leader is gone for good, 'overlayctl cluster takeover' here leads from its copy",
};

export class Manager {
  readonly member: EtcdMember;
  readonly #options: ManagerOptions;
  readonly #stopping = new AbortController();
  #run: Promise<void> = Promise.resolve();
  #leader: Leader | undefined;
  #calls: PeerCalls | undefined;
  #rotation: AuthorityRotation | undefined;
  #kind: StoreKind = "copy";
  #whyNot: string | undefined;
  #copying: { copy: StateCopy; store: EmbeddedStore } | undefined;
  #candidate: EtcdStore | undefined;
  /** Whether etcd has not answered lately: the leader that it named may be gone. */
  #isCutOff = false;
  #access: EtcdAccess | undefined;
  #members: StoreMembers | undefined;
  /** Aborted to choose again. */
  #turn = new AbortController();
  /** Nothing is chosen while this is there. */
  #paused: Promise<void> | undefined;
  #settle: () => void = () => {};

  constructor(options: ManagerOptions) {
    this.#options = options;
    const { config, identity, ring, address, log } = options;
    this.member = new EtcdMember({
      directory: pathsOf(config).etcd,
      binary: config.cluster.etcd.binary,
      owner: { clusterId: identity.clusterId, nodeId: identity.nodeId, name: config.node.name, address },
      authority: () => ring.keys.store,
      clientPort: config.cluster.etcd.port,
      peerPort: STORE_PEER_PORT,
      clock: systemClock,
      log,
    });
  }

  /** undefined: it does not lead. */
  get leader(): Leader | undefined {
    return this.#leader;
  }

  /** The change of the nodes' CA, which the leader carries out. */
  get rotation(): AuthorityRotation | undefined {
    return this.#rotation;
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
    return this.#members?.openedAccess ?? this.#access;
  }

  /** What the leader does about the members of etcd; undefined: it does not lead. */
  get members(): StoreMembers | undefined {
    return this.#members;
  }

  /** HOST:PORT of the leader, as far as it is known. */
  get leaderAddress(): string | undefined {
    const { self, followed } = this.#options;
    return this.#leader === undefined ? (this.#candidate?.leader ?? followed()) : self;
  }

  /** The leader in this process. Throws MisdirectedError that names another one, and UserError 503 when there is none. */
  requireLeader(): Leader {
    if (this.#leader !== undefined) return this.#leader;
    const address = this.#isCutOff ? undefined : this.leaderAddress;
    if (address !== undefined && address !== this.#options.self) throw new MisdirectedError([address]);
    throw new UserError(503, this.#whyNot ?? NO_LEADER[this.#kind]);
  }

  /** What nodes and users ask of the leader. Throws as requireLeader does. */
  requireCalls(): PeerCalls {
    this.requireLeader();
    return this.#calls!;
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

  /** Ends what it does now, and chooses again. */
  chooseAgain(): void {
    this.#turn.abort();
  }

  /** The state is in etcd from now on. */
  movedToEtcd(): void {
    this.#kind = this.#options.config.cluster.etcd.endpoints === undefined ? "etcd" : "external etcd";
  }

  /** Leads from the copy from now on. Resolves with what it has. Throws UserError when there is no copy. */
  async takeOver(epoch: number): Promise<{ revision: number; epoch: number }> {
    const { config } = this.#options;
    const copying = this.#copying;
    if (copying === undefined) throw new UserError(409, "this manager has no copy of the state to lead from");
    await copying.copy.stop();
    const state = await copying.store.load();
    const id = state.cluster?.id;
    if (id === undefined || settingsOf(state) === undefined) {
      this.chooseAgain();
      throw new UserError(
        409,
        "this standby has copied nothing yet: 'overlayctl cluster import FILE' begins from an export",
      );
    }
    state.cluster = { id, epoch: Math.max(epoch, state.cluster!.epoch + 1) };
    const file = await openEmbeddedStore(pathsOf(config).store, this.#sealKey);
    await file.fill(state).finally(() => file.close());
    this.chooseAgain();
    return { revision: state.revision, epoch: state.cluster.epoch };
  }

  /** The whole state as a standby has copied it; undefined: it has not. */
  async copiedState(): Promise<State | undefined> {
    const state = await this.#copying?.store.load();
    return state?.cluster == null ? undefined : state;
  }

  /** Leads alone with what this manager's etcd has, in a new epoch. Resolves when etcd has taken that. */
  async recover(epoch: number): Promise<{ revision: number; epoch: number }> {
    const { identity, self, log } = this.#options;
    // This manager's own campaign would win before the epoch is a new one.
    let resume: () => void = () => {};
    this.#paused = new Promise((resolve) => {
      resume = resolve;
    });
    this.#turn.abort();
    try {
      await this.member.forceNewCluster();
      const access = await ownEtcd(this.member);
      const store = etcdStore(access, {
        clusterId: identity.clusterId,
        sealKey: this.#sealKey,
        self,
        clock: systemClock,
        log,
      });
      try {
        await untilReady(access, RECOVER_MS, this.#stopping.signal);
        await store.campaign();
        const { cluster, revision } = await store.load();
        if (cluster === null) throw new UserError(409, "this manager's etcd has no cluster's state");
        const next = { id: cluster.id, epoch: Math.max(epoch, cluster.epoch + 1) };
        await store.identify(next);
        return { revision, epoch: next.epoch };
      } finally {
        await store.close();
        access.close();
        await this.member.resume(); // without the option, which would remove members again at its next start
      }
    } finally {
      resume();
      this.#paused = undefined;
    }
  }

  /** As `chooseAgain`, for what changes nothing for a leader. */
  chooseAgainUnlessLeading(): void {
    if (this.#leader === undefined) this.#turn.abort();
  }

  /** What seals secrets in every store of the managers. */
  get #sealKey(): string {
    return this.#options.ring.keys.sealKey;
  }

  async #follow(): Promise<void> {
    const { log } = this.#options;
    const { signal } = this.#stopping;
    while (!signal.aborted) {
      await this.#paused;
      this.#turn = new AbortController();
      try {
        await this.#choose();
        this.#whyNot = undefined;
      } catch (error) {
        const reason = messageOf(error);
        if (reason !== this.#whyNot && !this.#turn.signal.aborted) {
          log.error("this node does not lead, and runs from its snapshot", { reason });
        }
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
    const path = pathsOf(this.#options.config).store;
    const file = (await hasStore(path)) ? await openEmbeddedStore(path, this.#sealKey) : undefined;
    try {
      if (file !== undefined && file.moved === undefined) return await this.#leadFile(file);
      this.#access = await this.#openEtcd();
      if (this.#access === undefined) {
        requireOtherManager(this.#options);
        return await this.#copyLeader();
      }
      await this.#campaign(this.#access, file?.moved?.store === "etcd" ? file.moved.cluster : undefined);
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

  /** `given`: the cluster whose state this manager's own file gave to etcd. */
  async #campaign(access: EtcdAccess, given: ClusterIdentity | undefined): Promise<void> {
    const { identity, self, log } = this.#options;
    this.movedToEtcd();
    const identified = () => identityIn(access, identity.clusterId);
    // What etcd says is newer than what this manager's file gave to it.
    const cluster = (await identified().catch(() => undefined)) ?? given;
    // The move to it is not over, or too few members are well.
    if (cluster === undefined) return this.#copyLeader(access);
    if ((await findSuccessor(this.#options, cluster)) !== undefined) {
      throw new CannotLeadError("another manager leads in a newer epoch", "overlayctl cluster status");
    }
    const store = etcdStore(access, {
      clusterId: identity.clusterId,
      sealKey: this.#sealKey,
      self,
      clock: systemClock,
      log,
    });
    this.#candidate = store;
    this.#standsBy();
    const close = () => void store.close();
    this.#turn.signal.addEventListener("abort", close);
    const watching = new AbortController();
    const watch = watchAnswers(access, watching.signal, (answers) => {
      this.#isCutOff = !answers;
    });
    try {
      await this.#lead(given === undefined ? store : openedStore(store, given, identified), undefined);
    } finally {
      this.#turn.signal.removeEventListener("abort", close);
      watching.abort();
      await watch;
      this.#isCutOff = false;
      this.#candidate = undefined;
      await store.close();
    }
  }

  /** Leads until that is over. Resolves with the manager that leads in a newer epoch, if that is why. */
  async #lead(store: Store, file: EmbeddedStore | undefined) {
    const { identity, ring, ownLeader, self, log } = this.#options;
    const watch = new SuccessorWatch(this.#options, systemClock);
    const config = {
      ...leaderConfig(this.#options, await store.load()),
      heardOfNewerEpoch: () => watch.askNow(),
      requireDispensable: async (node: Node, isRemoved: boolean) => this.#members?.requireDispensable(node, isRemoved),
    };
    const leader = new Leader({ ...{ store, clock: systemClock, log, newId, config } });
    await leader.start();
    this.#leader = leader;
    this.#calls = new PeerCalls({ leader, clock: systemClock, log });
    const rotation = new AuthorityRotation({ leader, ring, ownNodeId: identity.nodeId, clock: systemClock, log });
    this.#rotation = rotation;
    ownLeader.begin(self, this.#calls);
    rotation.resume();
    this.#standsBy();
    const members = new StoreMembers({ options: this.#options, manager: this, leader, file });
    this.#members = members;
    const watching = new AbortController();
    try {
      const over = Promise.race([aborted(leader.over), aborted(this.#turn.signal)]).then(() => undefined);
      const successor = watch.find(() => leader.state.cluster!, watching.signal);
      const found = await Promise.race([over, successor]);
      return found === undefined ? undefined : { successor: found, leader };
    } finally {
      watching.abort();
      this.#leader = undefined;
      this.#calls = undefined;
      this.#rotation = undefined;
      this.#members = undefined;
      ownLeader.end();
      await rotation.stop();
      await leader.stop();
      await members.stop();
    }
  }

  /** Copies until this manager is told to take over, or etcd has the state. */
  async #copyLeader(access?: EtcdAccess): Promise<void> {
    const { config, identity, calls, followed, log } = this.#options;
    if (access === undefined) this.#kind = "copy";
    const store = await openEmbeddedStore(pathsOf(config).copy, this.#sealKey);
    const copy = new StateCopy({
      store,
      ask: (request, signal) => {
        const leader = followed();
        if (leader === undefined) throw new UserError(503, "no leader is known");
        return calls.copy(leader, request, signal);
      },
      ...{ clock: systemClock, log },
    });
    try {
      await copy.start();
      this.#copying = { copy, store };
      this.#standsBy();
      const { signal } = this.#turn;
      while (!signal.aborted) {
        await delay(systemClock, LOOK_MS, signal);
        if (access === undefined) continue;
        if ((await identityIn(access, identity.clusterId).catch(() => undefined)) !== undefined) return;
      }
    } finally {
      this.#copying = undefined;
      await copy.stop();
      await store.close();
    }
  }
}

function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => signal.addEventListener("abort", () => resolve(), { once: true }));
}
