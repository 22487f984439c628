// Whether a flow that was decided under earlier tables is one that today's would allow.
import type { Ipv4 } from "../lib/ip.ts";
import type { FlowTable } from "./flow-table.ts";
import type { PeerHealth } from "./peer-health.ts";
import { DEVICE } from "./rows.ts";
import type { Tables } from "./tables.ts";

export class FlowCheck {
  readonly #flows: FlowTable;
  readonly #tables: Tables;
  readonly #health: PeerHealth;

  constructor(flows: FlowTable, tables: Tables, health: PeerHealth) {
    this.#flows = flows;
    this.#tables = tables;
    this.#health = health;
  }

  /**
   * Whether the flow was last looked at under earlier tables than this worker's. Workers count the same changes, one a
   * moment before the other: what a later one's tables bear out is not for this one to judge.
   */
  isDue(entry: number): boolean {
    return ((this.#tables.epoch - this.#flows.epochOf(entry)) | 0) > 0;
  }

  /** Whether both ends are still where the flow has them, and its task still the service's. */
  isBorneOut(entry: number): boolean {
    const flows = this.#flows;
    if (!this.#tables.areWhole) return true; // the agent has just started, and may lack the rows of this flow
    const original = entry & ~1;
    const server = flows.sourceOf(original + 1);
    const vtep = flows.toOf(original);
    if (!this.#isAt(flows.sourceOf(original), flows.fromOf(original))) return false;
    if (!this.#isAt(server, vtep) || !this.#isOpen(original, server)) return false;
    const address = flows.vipOf(original);
    if (address === 0) return true;
    const vip = this.#tables.vips.get(address);
    if (vip === undefined) return false;
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

  #isAt(address: Ipv4, vtep: Ipv4): boolean {
    const tables = this.#tables;
    const endpoint = tables.endpoints.get(address);
    if (endpoint !== undefined) return tables.mayComeFrom(endpoint, vtep);
    if (!tables.inPool(address)) return vtep === DEVICE || tables.peers.has(vtep);
    if (vtep !== DEVICE) return tables.peersByIngress.get(address)?.vtep === vtep;
    return address === tables.node.ingress || tables.networksByGateway.has(address) || tables.vips.has(address);
  }
}
