// This manager's member of etcd: a child of the agent. What it was begun as is in member.json, so that the next agent adopts it
// or begins it again in the same way.
import { open, rm } from "node:fs/promises";
import { freeBytes } from "../leader/disk-room.ts";
import {
  type EtcdMemberSpec,
  etcdCommand,
  etcdPaths,
  type MemberStart,
  peerUrlOf,
  readSpec,
} from "../leader/etcd-command.ts";
import { complaintIn, type EtcdComplaint } from "../leader/etcd-complaint.ts";
import type { MemberTrust } from "../leader/manager-protocol.ts";
import type { Clock, Timer } from "../lib/clock.ts";
import { messageOf, UserError } from "../lib/errors.ts";
import { exists, textIfThere } from "../lib/exists.ts";
import type { Log } from "../lib/log.ts";
import { newId } from "../lib/random.ts";
import { replaceFile } from "../lib/replace-file.ts";
import { Turns } from "../lib/turns.ts";
import { type ChildStatus, SupervisedChild } from "../runtime/supervised-child.ts";
import { EtcdCertificate, type EtcdOwner, LOOPBACK, type StoreTrust } from "./etcd-certificate.ts";

const PATH = "/usr/sbin:/usr/bin:/sbin:/bin";
const LOOK_AT_CERTIFICATE_MS = 3_600_000;
const LOOK_AT_ROOM_MS = 5000;
/** The next part of its log, and the one after that, which it makes ahead. */
const ROOM_BYTES = 128 * 1024 * 1024;
const TAIL_BYTES = 64 * 1024;

interface EtcdMemberOptions {
  directory: string;
  binary: string;
  owner: EtcdOwner;
  trust: () => StoreTrust;
  clientPort: number;
  peerPort: number;
  clock: Clock;
  log: Log;
}

export class EtcdMember {
  /** What its process shows and trusts. */
  readonly certificate: EtcdCertificate;
  readonly #options: EtcdMemberOptions;
  readonly #paths: ReturnType<typeof etcdPaths>;
  readonly #child: SupervisedChild;
  /** The leader begins and removes it, while this manager itself has it run: one after the other, or two processes would. */
  readonly #turns = new Turns();
  #renewal: Timer | undefined;
  #roomWatch: Timer | undefined;
  /** Whether its disk was full when that was looked at last. */
  #isFull = false;
  /** The digests of the CAs with which its process was started. */
  #trusts: readonly string[] = [];

  constructor(options: EtcdMemberOptions) {
    const { directory, owner, trust, clock, log } = options;
    this.#options = options;
    this.#paths = etcdPaths(directory);
    this.certificate = new EtcdCertificate({ paths: this.#paths, owner, trust, clock });
    this.#child = new SupervisedChild({ name: "etcd", directory: this.#paths.process, clock, log });
  }

  get status(): ChildStatus {
    return this.#child.status;
  }

  /** HOST:PORT at which this manager asks it. */
  get endpoint(): string {
    return `${LOOPBACK}:${this.#options.clientPort}`;
  }

  /** Where other members reach it. */
  get peerUrl(): string {
    return peerUrlOf(this.#options.owner.address, this.#options.peerPort);
  }

  /** Its name in etcd. */
  get name(): string {
    return this.#options.owner.nodeId;
  }

  /** The path of what its process prints. */
  get log(): string {
    return this.#child.log;
  }

  /** Where the process and its data are. */
  get directory(): string {
    return this.#options.directory;
  }

  /** Whether this manager has a member, running or not. */
  isThere(): Promise<boolean> {
    return exists(this.#paths.spec);
  }

  /** Begins a new member. Throws UserError 409 when there is one. */
  begin(start: MemberStart): Promise<void> {
    return this.#turns.run(async () => {
      if (await this.isThere())
        throw new UserError(409, `node '${this.#options.owner.name}' has a member of etcd already`);
      await rm(this.#paths.data, { recursive: true, force: true }); // of a member whose removal broke off
      // A first member has the same id each time. Members that an earlier attempt left must not take it for theirs.
      await this.#run({ start, token: `${this.#options.owner.clusterId}-${newId()}`, forceNewCluster: false }, true);
    });
  }

  /**
   * Has it run with the data that it has, if there is one and it does not run yet. Resolves with whether there is one. A process
   * that an earlier agent left is adopted.
   */
  resumeIfThere(): Promise<boolean> {
    return this.#turns.run(async () => {
      if (!(await this.isThere())) return false;
      if (this.status.state === "stopped") await this.#resume();
      return true;
    });
  }

  /** Has it run with the data that it has; one that runs with other options is started again. Throws UserError 409. */
  resume(): Promise<void> {
    return this.#turns.run(() => this.#resume());
  }

  /**
   * It trusts the CAs that the state says, and shows a certificate of the one that signs. Its process is started again when it
   * trusts others than before. Throws UserError 503 when this manager lacks the key.
   */
  takeTrust(): Promise<void> {
    return this.#turns.run(() => this.#resume({ isAnew: true }));
  }

  /** What its process trusts, and who signed the certificate that it shows. */
  async trust(): Promise<MemberTrust> {
    return { trusts: [...this.#trusts], signer: await this.certificate.signer() };
  }

  /** Makes it the only member of its cluster, with all that it has: the others are gone for good. */
  forceNewCluster(): Promise<void> {
    return this.#turns.run(async () => this.#run({ ...(await this.#spec()), forceNewCluster: true }));
  }

  /** Ends it; its data stays. */
  stop(): Promise<void> {
    return this.#turns.run(() => this.#stop());
  }

  /** Ends the supervision; the process goes on for the next agent. */
  leave(): Promise<void> {
    return this.#turns.run(async () => {
      this.#stopWatching();
      await this.#child.leave();
    });
  }

  /** Ends it and deletes its data. member.json goes first: what is left then is no member any more. */
  remove(): Promise<void> {
    return this.#turns.run(async () => {
      await this.#stop();
      await rm(this.#paths.spec, { force: true });
      await rm(this.#options.directory, { recursive: true, force: true });
    });
  }

  /** Why its process ended last, in etcd's words; undefined: it runs. */
  async complaint(): Promise<EtcdComplaint | undefined> {
    const { status } = this.#child;
    if (status.state === "running" || status.state === "stopped") return undefined;
    // Its last words may not have found room either.
    const free = await freeBytes(this.#options.directory);
    if (free < ROOM_BYTES)
      return { kind: "full", text: `only ${free >> 20} MiB are free at ${this.#options.directory}` };
    return complaintIn(await tailOf(this.#child.log)) ?? { kind: "other", text: status.error };
  }

  async #stop(): Promise<void> {
    this.#stopWatching();
    await this.#child.stop();
  }

  /** Without its data it would begin a cluster of its own if it were the first member: so it asks the others, and fails. */
  async #resume({ isAnew = false } = {}): Promise<void> {
    const { start, token } = await this.#spec();
    await this.#run({ start: { ...start, state: "existing" }, token, forceNewCluster: false }, isAnew);
  }

  /** `isAnew`: the CAs that it trusts become those that the state says. */
  async #run(begun: Pick<EtcdMemberSpec, "start" | "token" | "forceNewCluster">, isAnew = false): Promise<void> {
    const { directory, binary, owner, clientPort, peerPort } = this.#options;
    await this.certificate.keepGood(isAnew);
    const { nodeId, address } = owner;
    const spec: EtcdMemberSpec = { ...begun, binary, name: nodeId, address, clientPort, peerPort };
    await replaceFile(this.#paths.spec, `${JSON.stringify(spec, null, 2)}\n`);
    const { command, identity } = etcdCommand(directory, spec);
    const trusts = await this.certificate.trusts();
    await this.#child.run({ command, identity: [...identity, ...trusts], env: { PATH } });
    this.#trusts = trusts;
    this.#watchCertificate();
    this.#watchRoom();
  }

  async #spec(): Promise<EtcdMemberSpec> {
    const text = await textIfThere(this.#paths.spec);
    if (text === undefined) throw new UserError(409, `node '${this.#options.owner.name}' has no member of etcd`);
    return readSpec(text);
  }

  #stopWatching(): void {
    this.#renewal?.cancel();
    this.#roomWatch?.cancel();
  }

  /** One that ended too often while its disk was full is started again when there is room. */
  #watchRoom(): void {
    const { clock, log } = this.#options;
    this.#roomWatch?.cancel();
    this.#roomWatch = clock.after(LOOK_AT_ROOM_MS, () => {
      this.#turns
        .run(() => this.#lookAtRoom())
        .catch((error: unknown) => log.warn("etcd is not started", { reason: messageOf(error) }))
        .finally(() => this.status.state !== "stopped" && this.#watchRoom());
    });
  }

  async #lookAtRoom(): Promise<void> {
    const { directory, log } = this.#options;
    const wasFull = this.#isFull;
    this.#isFull = (await this.complaint())?.kind === "full";
    if (this.status.state !== "failed" || !(wasFull || this.#isFull)) return;
    if ((await freeBytes(directory)) < ROOM_BYTES) return;
    log.info("there is room for etcd again, and it is started", { path: directory });
    await this.#resume();
  }

  #watchCertificate(): void {
    const { clock, log } = this.#options;
    this.#renewal?.cancel();
    this.#renewal = clock.after(LOOK_AT_CERTIFICATE_MS, () => {
      this.#turns
        .run(() => this.certificate.keepGood(false))
        .catch((error: unknown) => log.error("the certificate of etcd is not renewed", { reason: messageOf(error) }))
        .finally(() => this.#watchCertificate());
    });
  }
}

/** The end of what it printed: as much as its last words and a panic's stack take. */
async function tailOf(path: string): Promise<string> {
  const file = await open(path);
  try {
    const { size } = await file.stat();
    const { buffer, bytesRead } = await file.read(
      Buffer.alloc(TAIL_BYTES),
      0,
      TAIL_BYTES,
      Math.max(0, size - TAIL_BYTES),
    );
    return buffer.toString("utf8", 0, bytesRead);
  } finally {
    await file.close();
  }
}
