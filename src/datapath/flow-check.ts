// Whether a flow that was decided under earlier tables may go on, and the end of those that may not.
import type { Ipv4 } from "../lib/ip.ts";
import { Protocol } from "../packet/ipv4.ts";
import type { ExpressFlows } from "./express-flows.ts";
import type { FlowTable } from "./flow-table.ts";
import type { PeerHealth } from "./peer-health.ts";
import type { Resets } from "./resets.ts";
import { DEVICE, type VipRow } from "./rows.ts";
import { isSealed } from "./sealed-way.ts";
import type { Tables } from "./tables.ts";

interface FlowCheckOptions {
  flows: FlowTable;
  tables: Tables;
  health: PeerHealth;
  resets: Resets;
  /** undefined: there is no express lane. */
  express?: ExpressFlows | undefined;
}

export class FlowCheck {
  /** Flows that were held against the tables, because a row that they stand on went. */
  checked = 0;
  readonly #flows: FlowTable;
  readonly #tables: Tables;
  readonly #health: PeerHealth;
  readonly #resets: Resets;
  readonly #express: ExpressFlows | undefined;

  constructor({ flows, tables, health, resets, express }: FlowCheckOptions) {
    this.#flows = flows;
    this.#tables = tables;
    this.#health = health;
    this.#resets = resets;
    this.#express = express;
  }

  /** Whether the flow has been idle for too long, in the express lane too: it leaves the lane for that question. */
  isIdle(entry: number, version: number, seconds: number): boolean {
    if (!this.#looksIdle(entry, seconds)) return false;
    this.#express?.takeOut(entry, version);
    return this.#looksIdle(entry, seconds);
  }

  /** As isIdle(), under the lock of the table. */
  isIdleLocked(entry: number, seconds: number): boolean {
    if (!this.#looksIdle(entry, seconds)) return false;
    this.#express?.takeOutLocked(entry);
    return this.#looksIdle(entry, seconds);
  }

  #looksIdle(entry: number, seconds: number): boolean {
    return seconds - this.#flows.lastSeenOf(entry) > this.#flows.timeoutOf(entry);
  }

  /** Ends the flow if it is still the one with this version: takes it out of the table and, of TCP, resets its ends. */
  end(entry: number, version: number): void {
    this.#express?.takeOut(entry, version); // resets have the numbers that it has come to in the lane
    if (this.#flows.protocolOf(entry) === Protocol.Tcp && this.#flows.isCurrent(entry, version)) {
      this.#resets.flow(entry);
    }
    this.#flows.remove(entry, version);
  }

  /**
   * Whether the flow is of an earlier epoch than this worker's tables. Workers count the same epochs, one a moment before the
   * other: a flow of a later epoch is for the worker whose tables are newer.
   */
  isDue(entry: number): boolean {
    return ((this.#tables.epoch - this.#flows.epochOf(entry)) | 0) > 0;
  }

  /**
   * Whether a row that a due flow stands on went since it was looked at last. While it is false, the flow is as good as when it was
   * decided: rows that came since end no flow.
   */
  hasLostGround(entry: number): boolean {
    const flows = this.#flows;
    const original = entry & ~1;
    return this.#tables.ground.wentSince(
      flows.epochOf(entry),
      flows.sourceOf(original),
      flows.sourceOf(original + 1),
      flows.vipOf(original),
      flows.fromOf(original),
      flows.toOf(original),
    );
  }

  /** Whether the flow may go on, looked at without a packet of it. One that has lost ground and may stay is not checked again. */
  mayStay(entry: number, version: number): boolean {
    if (!this.isDue(entry) || !this.hasLostGround(entry)) return true;
    if (!this.isBorneOut(entry)) return false;
    this.#flows.moveEpoch(entry, version, this.#tables.epoch);
    return true;
  }

  /** Whether both ends are still where the flow has them and travel as sealed as it does, and its task is still the service's. */
  isBorneOut(entry: number): boolean {
    this.checked++;
    const flows = this.#flows;
    const original = entry & ~1;
    const server = flows.sourceOf(original + 1);
    const isForSealed = this.#isSealed(flows.sourceOf(original)) || this.#isSealed(server);
    if (isForSealed && !isSealed(flows.vniOf(original))) return false;
    if (!this.#tables.areWhole) return true; // an agent that has just started may lack the rows of this flow
    if (isSealed(flows.vniOf(original)) !== isForSealed) return false;
    const vtep = flows.toOf(original);
    if (!this.#isAt(flows.sourceOf(original), flows.fromOf(original))) return false;
    if (!this.#isAt(server, vtep) || !this.#isOpen(original, server)) return false;
    const address = flows.vipOf(original);
    if (address === 0) return true;
    const vip = this.#tables.vips.get(address);
    if (vip === undefined || !this.#isPublished(original, vip)) return false;
    if (vip.tasks.includes(server)) return true;
    // The leader and our own probes agree that the node of a task that was given up is away: it will not drain.
    return vip.draining.includes(server) && (vtep === DEVICE || this.#health.isReachable(vtep));
  }

  /** Whether the server's port may still be reached from there. */
  #isOpen(original: number, server: Ipv4): boolean {
    const flows = this.#flows;
    const tables = this.#tables;
    const protocol = flows.protocolOf(original);
    const port = flows.portsOf(original + 1) >>> 16;
    if (tables.endpoints.has(flows.sourceOf(original)) && tables.isDenied(server, protocol, port)) return false;
    if (flows.zoneOf(original) !== tables.node.ingressVni) return true;
    const endpoint = tables.endpoints.get(server);
    return endpoint === undefined || tables.publishes(endpoint, protocol, port);
  }

  #isSealed(address: Ipv4): boolean {
    return this.#tables.endpoints.get(address)?.sealed === true;
  }

  /** Whether the port by which a client outside has come, on an address of this node, is still the service's. */
  #isPublished(original: number, { ip, ports }: VipRow): boolean {
    const flows = this.#flows;
    const destination = flows.destinationOf(original);
    if (ports === null || destination === ip || this.#tables.endpoints.has(flows.sourceOf(original))) return true;
    const [protocol, port] = [flows.protocolOf(original), flows.portsOf(original) & 0xffff];
    return ports.some(
      (own) =>
        own.protocol === protocol && own.published === port && (own.address === 0 || own.address === destination),
    );
  }

  #isAt(address: Ipv4, vtep: Ipv4): boolean {
    const tables = this.#tables;
    const endpoint = tables.endpoints.get(address);
    if (endpoint !== undefined) return tables.mayComeFrom(endpoint, vtep);
    if (!tables.inPool(address)) return vtep === DEVICE || tables.peers.has(vtep);
    if (vtep !== DEVICE) return tables.peersByIngress.get(address)?.vtep === vtep;
    return address === tables.node.ingress || tables.networksByGateway.has(address) || tables.vips.has(address);
  }
}
