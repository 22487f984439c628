// What flows stand on: addresses and VTEPs whose rows were deleted, or replaced so that a flow may have to end. A row that is
// added ends no flow, except one that denies a port.
import { type Ipv4, OUTSIDE } from "../lib/ip.ts";
import type { Grounds } from "./ports.ts";
import type { DeniedRow, EndpointRow, NodeRow, PeerRow, Port, PortMapping, TableRow, VipRow } from "./rows.ts";

/** With more losses than this, each older flow is checked whatever it stands on. */
const MOST_LOST = 4096;

export class LostGround {
  /**
   * Counts the diffs that took ground from flows. Workers that apply the same diffs count the same. A flow decided under an earlier
   * epoch is checked before it is used.
   */
  epoch: number;
  /** Everything counts as lost in this epoch. */
  #allLostAt: number;
  /** The epoch in which an address or VTEP was lost last. BOUNDED: MOST_LOST; keyed by address. */
  readonly #lostAt = new Map<Ipv4, number>();
  // What the diff at hand has lost so far.
  #isAllLost = false;
  readonly #lost: Ipv4[] = []; // BOUNDED: by the diff; empty between two diffs
  readonly #lane: Grounds | undefined;

  /** `lane` is told what is lost, before flows are decided by the new rows. */
  constructor(epoch: number, lane?: Grounds) {
    this.epoch = epoch;
    this.#allLostAt = epoch;
    this.#lane = lane;
  }

  /** Whether the flow with these ends may have lost ground since `epoch`. DEVICE never counts. Hot for flows of earlier epochs. */
  wentSince(epoch: number, client: Ipv4, server: Ipv4, vip: Ipv4, from: Ipv4, to: Ipv4): boolean {
    return (
      isAfter(this.#allLostAt, epoch) ||
      this.#isLostSince(epoch, client) ||
      this.#isLostSince(epoch, server) ||
      (vip !== 0 && this.#isLostSince(epoch, vip)) ||
      (from !== 0 && this.#isLostSince(epoch, from)) ||
      (to !== 0 && this.#isLostSince(epoch, to))
    );
  }

  #isLostSince(epoch: number, address: Ipv4): boolean {
    const lostAt = this.#lostAt.get(address);
    return lostAt !== undefined && isAfter(lostAt, epoch);
  }

  /** Notes what flows lose when `next` takes the place of `old`; undefined: there is none. Call it before the rows change. */
  compare(old: TableRow | undefined, next: TableRow | undefined): void {
    const row = next ?? old;
    switch (row?.kind) {
      case "node":
        if (!isSameNode(old as NodeRow | undefined, next as NodeRow | undefined)) this.loseAll();
        else if (!keepsEntrances(old as NodeRow, next as NodeRow)) this.#lane?.lose(OUTSIDE);
        return;
      case "network":
        if (old?.kind !== "network") return;
        if (next?.kind !== "network" || next.gateway !== old.gateway) this.#lost.push(old.gateway);
        if (next?.kind === "network" && next.sealed !== old.sealed) this.loseAll();
        if (next === undefined) this.#lane?.loseAll(); // no frame of it is taken from a peer, whatever flow it is of
        return;
      case "endpoint":
        if (old?.kind === "endpoint" && !keepsEndpoint(old, next as EndpointRow | undefined)) this.#lost.push(old.ip);
        return;
      case "peer":
        if (old?.kind === "peer") this.#losePeer(old, next as PeerRow | undefined);
        return;
      case "vip":
        if (old?.kind === "vip") this.#loseVip(old, next as VipRow | undefined);
        return;
      case "denied":
        if (next?.kind === "denied" && !hasPorts((old as DeniedRow | undefined)?.ports, next.ports))
          this.#lost.push(next.ip);
    }
  }

  /** Every flow is to be checked. */
  loseAll(): void {
    this.#isAllLost = true;
  }

  /** Ends the diff: a new epoch begins if it took ground. Returns whether it did. */
  settle(): boolean {
    if (!this.#isAllLost && this.#lost.length === 0) return false;
    this.epoch = (this.epoch + 1) | 0;
    if (this.#isAllLost) this.#lane?.loseAll();
    else for (const address of this.#lost) this.#lane?.lose(address);
    if (this.#isAllLost || this.#lostAt.size + this.#lost.length > MOST_LOST) {
      this.#allLostAt = this.epoch;
      this.#lostAt.clear();
    } else for (const address of this.#lost) this.#lostAt.set(address, this.epoch);
    this.#isAllLost = false;
    this.#lost.length = 0;
    return true;
  }

  #losePeer(old: PeerRow, next: PeerRow | undefined): void {
    const keepsLane = !old.lane || next?.lane === true;
    if (next !== undefined && next.agent === old.agent && next.ingress === old.ingress && keepsLane) return;
    // Flows of endpoints behind a VTEP without an agent may come through any node: nothing in them names the VTEP. This is rare.
    if (!old.agent) this.loseAll();
    else this.#lost.push(old.vtep); // which each flow to or from its ingress address names
  }

  /** A task that a VIP gives up takes its own flows along, and no others. */
  #loseVip(old: VipRow, next: VipRow | undefined): void {
    if (next === undefined) {
      this.#lost.push(old.ip);
      return;
    }
    if (!hasMappings(next, old)) this.#lost.push(old.ip);
    const kept = new Set(next.tasks);
    for (const task of old.tasks) if (!kept.has(task)) this.#lost.push(task);
    for (const task of next.draining) kept.add(task);
    for (const task of old.draining) if (!kept.has(task)) this.#lost.push(task);
  }
}

function isAfter(epoch: number, other: number): boolean {
  return ((epoch - other) | 0) > 0;
}

/** Whether the fields of the node that decide about flows are the same. */
function isSameNode(old: NodeRow | undefined, next: NodeRow | undefined): boolean {
  return (
    old !== undefined &&
    next !== undefined &&
    old.ingress === next.ingress &&
    old.ingressVni === next.ingressVni &&
    old.poolBase === next.poolBase &&
    old.poolMask === next.poolMask &&
    old.isProvisional === next.isProvisional
  );
}

/** Whether clients outside may still come by each address of the node by which they might. */
function keepsEntrances(old: NodeRow, next: NodeRow): boolean {
  return !old.mesh || (next.mesh && old.hostAddresses.every((address) => next.hostAddresses.includes(address)));
}

function keepsEndpoint(old: EndpointRow, next: EndpointRow | undefined): boolean {
  if (next === undefined || next.vtep !== old.vtep || next.vni !== old.vni || next.sealed !== old.sealed) return false;
  return hasPorts(next.published, old.published);
}

/** Whether each of `wanted` is among `ports`. */
function hasPorts(ports: readonly Port[] = [], wanted: readonly Port[] = []): boolean {
  const keys = new Set(ports.map(keyOf));
  return wanted.every((port) => keys.has(keyOf(port)));
}

/** Whether each port that `old` publishes is among those of `next`, and leads to the same one. */
function hasMappings(next: VipRow, old: VipRow): boolean {
  const wordOf = ({ protocol, published, target, address }: PortMapping): string =>
    `${protocol} ${published} ${target} ${address}`;
  const words = new Set((next.ports ?? []).map(wordOf));
  return (old.ports ?? []).every((mapping) => words.has(wordOf(mapping)));
}

function keyOf({ protocol, port }: Port): number {
  return (protocol << 16) | port;
}
