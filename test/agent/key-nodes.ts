// Nodes that agree on keys over real TLS on loopback. In place of workers each has a record of what is in force.
import type { ExecutionContext } from "ava";
import { KeyListener } from "../../src/agent/key-listener.ts";
import type { SealedPath } from "../../src/agent/peer-associations.ts";
import { type KeyPeer, PeerKeys } from "../../src/agent/peer-keys.ts";
import type { InboundKey, OutboundKey } from "../../src/datapath/associations.ts";
import { type Clock, delay, systemClock } from "../../src/lib/clock.ts";
import { type Ipv4, ipv4 } from "../../src/lib/ip.ts";
import { type Log, silentLog } from "../../src/lib/log.ts";
import type { Authority } from "../../src/trust/authority.ts";
import type { Subject } from "../../src/trust/certificates.ts";
import type { Credentials } from "../../src/trust/credentials.ts";
import { CLUSTER, credentialsOf, node as subject } from "../trust/cluster.ts";

const WAIT_MS = 120_000;

/** What the workers of a node have. */
export class RecordedPath implements SealedPath {
  readonly workers: number;
  readonly sealingSockets: number;
  readonly inbound = new Map<number, InboundKey>();
  /** By VTEP and socket. */
  readonly outbound = new Map<string, OutboundKey>();
  readonly log: string[] = [];
  /** What a command waits for, as with a worker that is blocked. */
  block: Promise<void> | undefined;
  onSeal: (keys: readonly OutboundKey[]) => void = () => {};
  onForget: (spis: readonly number[]) => void = () => {};

  constructor(workers = 2, sockets = 8) {
    this.workers = workers;
    this.sealingSockets = sockets;
  }

  async putAssociations(inbound: readonly InboundKey[], outbound: readonly OutboundKey[]): Promise<void> {
    const [opens, seals] = [inbound, outbound].map((keys) =>
      keys.map((key) => ({ ...key, key: Uint8Array.from(key.key) })),
    ) as [InboundKey[], OutboundKey[]];
    await this.block;
    for (const key of opens) {
      if (this.inbound.has(key.spi)) throw new Error(`SPI ${key.spi} is in use twice`);
      this.inbound.set(key.spi, key);
    }
    this.onSeal(seals);
    for (const key of seals) this.outbound.set(`${key.vtep} ${key.socket}`, key);
  }

  async forgetAssociations(spis: readonly number[], vteps: readonly Ipv4[]): Promise<void> {
    await this.block;
    this.onForget(spis);
    for (const spi of spis) this.inbound.delete(spi);
    for (const vtep of vteps) {
      for (const [spi, key] of this.inbound) if (key.vtep === vtep) this.inbound.delete(spi);
      for (const [at, key] of this.outbound) if (key.vtep === vtep) this.outbound.delete(at);
    }
  }

  sealsTo(vtep: Ipv4): OutboundKey[] {
    return [...this.outbound.values()].filter((key) => key.vtep === vtep);
  }
}

interface NodeOptions {
  clock?: Clock;
  log?: Log;
  path?: RecordedPath;
  subject?: Subject;
  credentials?: Credentials;
}

export class KeyNode {
  readonly name: string;
  readonly address: string;
  readonly vtep: Ipv4;
  readonly subject: Subject;
  readonly path: RecordedPath;
  readonly keys: PeerKeys;
  readonly listener: KeyListener;

  static async start(
    t: ExecutionContext,
    authority: Authority,
    name: string,
    address: string,
    options: NodeOptions = {},
  ) {
    const listener = await KeyListener.open({ host: address, port: 0 });
    const own = options.subject ?? subject(name);
    const credentials = options.credentials ?? (await credentialsOf(authority, own));
    const node = new KeyNode(name, address, listener, own, credentials, options);
    t.teardown(() => node.stop());
    return node;
  }

  private constructor(
    name: string,
    address: string,
    listener: KeyListener,
    own: Subject,
    credentials: Credentials,
    { clock = systemClock, log = silentLog, path = new RecordedPath() }: NodeOptions,
  ) {
    this.name = name;
    this.address = address;
    this.vtep = ipv4(address);
    this.subject = own;
    this.path = path;
    this.listener = listener;
    const ownId = own.id;
    this.keys = new PeerKeys({
      ...{ credentials, ownId, clusterId: CLUSTER, address, listener, path, clock, random: () => 0, log },
    });
  }

  get row(): KeyPeer {
    const { name, address, vtep, listener } = this;
    return { id: this.subject.id, name, vtep, address, keyPort: listener.port };
  }

  #stopped: Promise<void> | undefined;

  stop(): Promise<void> {
    this.#stopped ??= this.keys.stop();
    return this.#stopped;
  }

  /** Whether everything that it seals for `other` is opened there by the same key, in the worker that the socket is steered to. */
  reaches(other: KeyNode): boolean {
    const seals = this.path.sealsTo(other.vtep);
    return seals.length === this.path.sealingSockets && seals.every((key) => isOpened(key, this, other));
  }
}

/** Whether `to` opens what `from` seals by this key. */
export function isOpened(key: OutboundKey, from: KeyNode, to: KeyNode): boolean {
  const opening = to.path.inbound.get(key.spi);
  if (opening === undefined || opening.vtep !== from.vtep) return false;
  return Buffer.compare(opening.key, key.key) === 0 && key.spi % to.path.workers === key.socket % to.path.workers;
}

export function meet(...nodes: KeyNode[]): void {
  for (const node of nodes) node.keys.setPeers(nodes.filter((other) => other !== node).map(({ row }) => row));
}

export async function until(what: string, condition: () => boolean): Promise<void> {
  const end = systemClock.monotonic() + WAIT_MS;
  while (!condition()) {
    if (systemClock.monotonic() > end) throw new Error(`not within ${WAIT_MS / 1000} s: ${what}`);
    await delay(systemClock, 5);
  }
}
