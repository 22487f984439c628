// This manager's member of etcd: a child of the agent, with certificates of the store's CA that the manager makes for itself.
// What it was begun as is in member.json, so that the next agent adopts it or begins it again in the same way. Etcd reads its
// own certificate at each connection, and the CAs that it trusts at its start alone.
import { open, readFile, rm } from "node:fs/promises";
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
import { type Authority, createRequest, issue } from "../trust/authority.ts";
import { certificatesIn, createKey, publicKeyDigest, signerOf, validityOf } from "../trust/certificates.ts";
import { renewalDue } from "../trust/expiry.ts";

const PATH = "/usr/sbin:/usr/bin:/sbin:/bin";
const LOOK_AT_CERTIFICATE_MS = 3_600_000;
const LOOK_AT_ROOM_MS = 5000;
/** The next part of its log, and the one after that, which it makes ahead. */
const ROOM_BYTES = 128 * 1024 * 1024;
const TAIL_BYTES = 64 * 1024;
const LOOPBACK = "127.0.0.1";

/** The manager whose member it is. */
interface EtcdOwner {
  clusterId: string;
  nodeId: string;
  /** The node's name. */
  name: string;
  /** The node's address on the underlay. */
  address: string;
}

/** What the state says of the store's CA. */
export interface StoreTrust {
  /** The CAs that are trusted, PEM. */
  bundle: readonly string[];
  /** The digest of the one that signs. */
  signer: string;
  /** That one with its key. Throws UserError 503 when this manager does not have it. */
  authority(): Authority;
}

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

/** What a client of this member shows and trusts, in PEM. */
interface EtcdCredentials {
  ca: string;
  certificate: string;
  key: string;
}

export class EtcdMember {
  readonly #options: EtcdMemberOptions;
  readonly #paths: ReturnType<typeof etcdPaths>;
  readonly #child: SupervisedChild;
  // BOUNDED: by the clients of this process.
  readonly #listeners = new Set<(credentials: EtcdCredentials) => void>();
  /** The leader begins and removes it, while this manager itself has it run: one after the other, or two processes would. */
  readonly #turns = new Turns();
  #renewal: Timer | undefined;
  #roomWatch: Timer | undefined;
  /** Whether its disk was full when that was looked at last. */
  #isFull = false;
  /** The digests of the CAs with which its process was started. */
  #trusts: readonly string[] = [];

  constructor(options: EtcdMemberOptions) {
    const { directory, clock, log } = options;
    this.#options = options;
    this.#paths = etcdPaths(directory);
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

  /** What `takeTrust` would have it trust and show. */
  get wantedTrust(): MemberTrust {
    const { bundle, signer } = this.#options.trust();
    return { trusts: bundle.map((ca) => publicKeyDigest(ca)), signer };
  }

  /** What its process trusts, and who signed the certificate that it shows. */
  async trust(): Promise<MemberTrust> {
    const { ca, certificate } = this.#paths;
    const [trusted, own] = [await textIfThere(ca), await textIfThere(certificate)];
    const isThere = trusted !== undefined && own !== undefined;
    return { trusts: [...this.#trusts], signer: (isThere && signerOf(own, certificatesIn(trusted))) || null };
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

  async credentials(): Promise<EtcdCredentials> {
    const { ca, certificate, key } = this.#paths;
    const [caText, certificateText, keyText] = await Promise.all(
      [ca, certificate, key].map((path) => readFile(path, "utf8")),
    );
    return { ca: caText!, certificate: certificateText!, key: keyText! };
  }

  /** Calls after each change of its certificate or CAs, until the returned function is called. */
  onCredentials(listener: (credentials: EtcdCredentials) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
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
    await this.#certify(isAnew);
    const { nodeId, address } = owner;
    const spec: EtcdMemberSpec = { ...begun, binary, name: nodeId, address, clientPort, peerPort };
    await replaceFile(this.#paths.spec, `${JSON.stringify(spec, null, 2)}\n`);
    const { command, identity } = etcdCommand(directory, spec);
    const trusts = certificatesIn(await readFile(this.#paths.ca, "utf8")).map((ca) => publicKeyDigest(ca));
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

  /**
   * Makes the member's certificate when there is none, it is of another CA than the one that signs, or two thirds of its life
   * are over. The CAs that its process trusts stay as they are without `isAnew`, unless the one that signs is not among them.
   */
  async #certify(isAnew: boolean): Promise<void> {
    const { clock, trust } = this.#options;
    const { bundle, signer, authority: find } = trust();
    const { ca, certificate, key } = this.#paths;
    const now = clock.now();
    const [trusted, before, beforeKey] = [
      await textIfThere(ca),
      await textIfThere(certificate),
      await textIfThere(key),
    ];
    // An agent that was killed between the two renames below has a certificate of another key.
    const isWhole =
      before !== undefined && beforeKey !== undefined && publicKeyDigest(before) === publicKeyDigest(beforeKey);
    let authority: Authority;
    try {
      authority = find();
    } catch (error) {
      // Its key comes with this node's next certificate.
      if (isAnew || !isWhole || trusted === undefined) throw error;
      return;
    }
    const isTrusted = certificatesIn(trusted ?? "").some((one) => publicKeyDigest(one) === signer);
    const wanted = bundle.join("\n");
    const isOther = (isAnew || !isTrusted) && trusted !== wanted;
    if (isOther) await replaceFile(ca, wanted);
    const isGood = isWhole && signerOf(before, [authority.certificate]) !== undefined;
    if (!isGood || now >= renewalDue(validityOf(before))) await this.#issue(authority, now);
    else if (!isOther) return;
    const credentials = await this.credentials();
    for (const listener of this.#listeners) listener(credentials);
  }

  async #issue(authority: Authority, now: number): Promise<void> {
    const { owner } = this.#options;
    const { certificate, key } = this.#paths;
    const newKey = createKey();
    const issued = await issue(authority, {
      request: await createRequest(newKey, owner.name),
      subject: { kind: "node", clusterId: owner.clusterId, id: owner.nodeId, name: owner.name, role: "manager" },
      addresses: [LOOPBACK, owner.address],
      now,
    });
    // A connection between the two renames fails, and is tried again.
    await replaceFile(key, newKey);
    await replaceFile(certificate, issued);
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
        .run(() => this.#certify(false))
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
