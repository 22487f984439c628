// The decision about a new flow, made once from the tables and then written into the flow table. What this file does not allow is
// dropped: isolation between networks is here and nowhere else.
import type { Ipv4 } from "../lib/ip.ts";
import { DNS_PORT } from "../lib/standard-ports.ts";
import { Drop } from "../packet/drop.ts";
import { Type } from "../packet/icmp.ts";
import { Protocol } from "../packet/ipv4.ts";
import type { Packet } from "../packet/packet.ts";
import type { Balancer } from "./balancer.ts";
import { DEVICE, type EndpointRow, type NetworkRow, type VipRow } from "./rows.ts";
import { bareVni, isSealed, SEALED } from "./sealed-way.ts";
import type { Tables } from "./tables.ts";

/** Decides, and keeps the last decision in its fields. Hot for new flows: must not allocate. */
export class Decision {
  readonly #tables: Tables;
  readonly #balancer: Balancer;
  #seconds = 0;
  /** The VTEP that the server side is behind, or DEVICE. */
  to: Ipv4 = DEVICE;
  /** The VNI between the nodes, when a side of the flow is behind a peer; with the flag SEALED, if an end is a sealed endpoint. */
  vni = 0;
  // Addresses and ports as the server sees them.
  source: Ipv4 = 0;
  destination: Ipv4 = 0;
  ports = 0;
  /** The VIP that the flow was balanced from, or 0. */
  vip: Ipv4 = 0;

  constructor(tables: Tables, balancer: Balancer) {
    this.#tables = tables;
    this.#balancer = balancer;
  }

  /**
   * Decides for a packet from the device. `seconds` is the time on the flows' clock. What is from or for a sealed endpoint travels sealed,
   * whatever VNI it takes.
   */
  outbound(packet: Packet, seconds: number): Drop {
    const refused = this.#outbound(packet, seconds);
    if (refused === Drop.None && this.#isForSealed(packet.source, this.destination)) this.vni |= SEALED;
    return refused;
  }

  #outbound(packet: Packet, seconds: number): Drop {
    this.#seconds = seconds;
    this.#passUnchanged(packet);
    const { source, destination } = packet;
    if (isForMany(destination)) return Drop.Multicast;
    if (isNeverADestination(destination)) return Drop.BadDestination;
    const endpoint = this.#tables.endpoints.get(source);
    if (endpoint !== undefined) {
      // The kernel sends here only what carries an endpoint's own source: another node's would be a forgery.
      if (endpoint.vtep !== DEVICE) return Drop.SpoofedSource;
      const network = this.#tables.networks.get(endpoint.vni);
      return network === undefined ? Drop.NotAllowed : this.#fromEndpoint(packet, network);
    }
    if (!this.#tables.inPool(source)) return this.#fromOutside(packet);
    if (source === this.#tables.node.ingress) return this.#fromHost(packet);
    const network = this.#tables.networksByGateway.get(source);
    if (network === undefined) return Drop.SpoofedSource;
    return this.#toEndpoint(destination, network, true); // every node has this gateway: it is never toward a peer
  }

  /** Decides for a packet from the peer at `vtep`, on the VNI `zone`, which says whether it was sealed. */
  inbound(packet: Packet, vtep: Ipv4, zone: number): Drop {
    const isForSealed = this.#isForSealed(packet.source, packet.destination);
    if (isForSealed && !isSealed(zone)) return Drop.ClearPacket;
    const refused = this.#inbound(packet, vtep, zone);
    return refused === Drop.None && isSealed(zone) && !isForSealed ? Drop.SealedPacket : refused;
  }

  #isForSealed(source: Ipv4, destination: Ipv4): boolean {
    const { endpoints } = this.#tables;
    return endpoints.get(source)?.sealed === true || endpoints.get(destination)?.sealed === true;
  }

  #inbound(packet: Packet, vtep: Ipv4, zone: number): Drop {
    const vni = bareVni(zone);
    this.#passUnchanged(packet);
    this.vni = zone;
    const { source, destination } = packet;
    if (isForMany(destination)) return Drop.Multicast;
    if (isNeverADestination(destination)) return Drop.BadDestination;
    const tables = this.#tables;
    const endpoint = tables.endpoints.get(source);
    if (vni === tables.node.ingressVni) {
      if (endpoint === undefined) {
        if (tables.inPool(source) && tables.peersByIngress.get(source)?.vtep !== vtep) return Drop.SpoofedSource;
      } else if (!tables.mayComeFrom(endpoint, vtep)) return Drop.SpoofedSource;
      return this.#fromIngress(packet, vtep);
    }
    const network = tables.networks.get(vni);
    if (network === undefined) return Drop.UnknownVni;
    if (endpoint === undefined || endpoint.vni !== vni || !tables.mayComeFrom(endpoint, vtep))
      return Drop.SpoofedSource;
    if (tables.peers.get(vtep)?.agent === false) return this.#fromExternal(packet, network, vtep);
    const target = tables.endpoints.get(destination);
    return target !== undefined && target.vtep === DEVICE && target.vni === vni ? Drop.None : Drop.NoRoute;
  }

  /**
   * Decides for a packet of a VTEP that may know no other node than this one: it reaches all of its network, on every node, and
   * nothing else. It never goes back where it came from; a node that gets it from here delivers it, and forwards nothing.
   */
  #fromExternal(packet: Packet, network: NetworkRow, vtep: Ipv4): Drop {
    if ((packet.destination & network.mask) !== network.base) return Drop.NoRoute;
    const refused = this.#fromEndpoint(packet, network);
    return refused === Drop.None && this.to === vtep ? Drop.NoRoute : refused;
  }

  #passUnchanged(packet: Packet): void {
    this.to = DEVICE;
    this.vni = 0;
    this.source = packet.source;
    this.destination = packet.destination;
    this.ports = packet.ports;
    this.vip = 0;
  }

  #fromEndpoint(packet: Packet, network: NetworkRow): Drop {
    const tables = this.#tables;
    const { destination } = packet;
    if (isLastOf(destination, network)) return Drop.Multicast;
    if (destination === network.base) return Drop.BadDestination; // RFC 1122 section 3.3.6
    const vip = tables.vips.get(destination);
    if (vip !== undefined) return vip.vni === network.vni ? this.#balance(packet, vip) : Drop.NotAllowed;
    if (tables.inPool(destination) && destination !== network.gateway)
      return this.#toEndpoint(destination, network, false);
    if (this.#isForGateway(packet, network)) return Drop.None;
    const target = packet.ports & 0xffff;
    if (network.internal || tables.isDenied(destination, packet.protocol, target)) return Drop.NotAllowed;
    const isOwn = destination === network.gateway || tables.hostAddresses.has(destination);
    if (isOwn ? tables.node.mesh : tables.peers.get(destination)?.mesh === true) {
      const published = tables.published.find(packet.protocol, target, destination, isOwn);
      if (published !== undefined) return this.#balance(packet, published);
    }
    // The host answers what is its own; the rest it forwards and masquerades.
    return isOwn && !tables.node.nodeServices ? Drop.NotAllowed : Drop.None;
  }

  /** Whether the packet is for what every gateway serves: the overlay's DNS, the port of any published service, or a ping. */
  #isForGateway(packet: Packet, network: NetworkRow): boolean {
    const { protocol } = packet;
    if (packet.destination !== network.gateway) return false;
    if (protocol === Protocol.Icmp) return packet.u8[packet.transport] === Type.Echo;
    return (protocol === Protocol.Udp || protocol === Protocol.Tcp) && (packet.ports & 0xffff) === DNS_PORT;
  }

  /**
   * Decides for a packet on the ingress network. Clients of published ports come by it, with addresses of the outside, of
   * other networks and of nodes: they reach what is published, and nothing else. Nodes also ping each other.
   */
  #fromIngress(packet: Packet, vtep: Ipv4): Drop {
    const tables = this.#tables;
    const { source, destination, protocol } = packet;
    if (destination === tables.node.ingress) {
      const isNode = tables.peersByIngress.get(source)?.vtep === vtep;
      return isNode && protocol === Protocol.Icmp ? Drop.None : Drop.NotAllowed;
    }
    const task = tables.endpoints.get(destination);
    if (task?.vtep !== DEVICE) return Drop.NoRoute;
    if (!tables.publishes(task, protocol, packet.ports & 0xffff)) return Drop.NotAllowed;
    this.#hideClientFrom(task);
    return Drop.None;
  }

  /**
   * Decides for a client outside, which is in no network: it reaches published ports, on the node's address as the express lane leads it
   * here, or on mesh VIPs, to which the node's nftables rules have sent it.
   */
  #fromOutside(packet: Packet): Drop {
    if (this.#tables.hostAddresses.has(packet.destination)) return this.#fromEntrance(packet);
    const vip = this.#tables.vips.get(packet.destination);
    if (vip === undefined) return this.#tables.inPool(packet.destination) ? Drop.NoFlow : Drop.NoRoute;
    return vip.vni === this.#tables.node.ingressVni ? this.#balance(packet, vip) : Drop.NotAllowed;
  }

  #fromEntrance(packet: Packet): Drop {
    const { node, published } = this.#tables;
    const { protocol, destination } = packet;
    const vip = node.mesh ? published.find(protocol, packet.ports & 0xffff, destination, true) : undefined;
    return vip?.vni === node.ingressVni ? this.#balance(packet, vip) : Drop.NoService;
  }

  /** Decides for a packet of the node itself, which reaches its own endpoints, published ports of others, and other nodes by ping. */
  #fromHost(packet: Packet): Drop {
    const tables = this.#tables;
    const { destination } = packet;
    this.vni = tables.node.ingressVni;
    const vip = tables.vips.get(destination);
    if (vip !== undefined) {
      const refused = this.#balance(packet, vip);
      if (refused !== Drop.None || vip.ports !== null) return refused;
      const task = tables.endpoints.get(this.destination)!;
      return tables.publishes(task, packet.protocol, packet.ports & 0xffff) ? Drop.None : Drop.NotAllowed;
    }
    const peer = tables.peersByIngress.get(destination);
    if (peer !== undefined) {
      this.to = peer.vtep;
      return packet.protocol === Protocol.Icmp ? Drop.None : Drop.NotAllowed;
    }
    const endpoint = tables.endpoints.get(destination);
    if (endpoint === undefined) return Drop.NoRoute;
    this.to = endpoint.vtep;
    this.#hideClientFrom(endpoint);
    if (this.to === DEVICE) return Drop.None;
    // A peer that runs no agent has no part in the ingress network.
    if (tables.peers.get(this.to)?.agent === false) return Drop.NoRoute;
    return tables.publishes(endpoint, packet.protocol, packet.ports & 0xffff) ? Drop.None : Drop.NotAllowed;
  }

  #toEndpoint(destination: Ipv4, network: NetworkRow, localOnly: boolean): Drop {
    const endpoint = this.#tables.endpoints.get(destination);
    if (endpoint === undefined) return Drop.NoRoute;
    if (endpoint.vni !== network.vni) return Drop.NotAllowed;
    if (localOnly && endpoint.vtep !== DEVICE) return Drop.NotAllowed;
    this.to = endpoint.vtep;
    this.vni = network.vni;
    return Drop.None;
  }

  /** Chooses the task. A task that reaches itself sees the VIP as its client, or its reply would not come back. */
  #balance(packet: Packet, vip: VipRow): Drop {
    const tables = this.#tables;
    let target = packet.ports & 0xffff;
    if (vip.ports !== null) {
      target = targetPort(vip, packet.protocol, target);
      if (target < 0) return Drop.NoService;
    }
    const task = this.#balancer.choose(vip, packet, this.#seconds);
    if (task === 0) return Drop.NoTask;
    const endpoint = tables.endpoints.get(task);
    if (endpoint === undefined) return Drop.NoTask;
    this.vip = vip.ip;
    this.destination = task;
    if (packet.source === task) this.source = vip.ip;
    this.ports = (packet.ports & ~0xffff) | target;
    this.to = endpoint.vtep;
    // Only the ingress VNI carries clients that are not of the task's own network.
    const client = tables.endpoints.get(packet.source);
    this.vni = client !== undefined && client.vni === endpoint.vni ? endpoint.vni : tables.node.ingressVni;
    if (this.vni === tables.node.ingressVni) this.#hideClientFrom(endpoint);
    return Drop.None;
  }

  /** Lets the task's node stand in for the client: a task whose default route is elsewhere can answer its gateway alone. */
  #hideClientFrom(task: EndpointRow): void {
    if (task.sourceNat !== true || task.vtep !== DEVICE) return;
    const network = this.#tables.networks.get(task.vni);
    if (network !== undefined) this.source = network.gateway;
  }
}

/** The task's port behind a published port; -1 when the VIP does not publish it. ICMP has no ports and passes. */
function targetPort(vip: VipRow, protocol: number, published: number): number {
  for (const mapping of vip.ports ?? []) {
    if (mapping.protocol === protocol && mapping.published === published) return mapping.target;
  }
  return protocol === Protocol.Icmp ? published : -1;
}

/** Multicast 224/4 and limited broadcast: RFC 1112, RFC 919. */
function isForMany(ip: Ipv4): boolean {
  return ip >>> 28 === 14 || ip === -1;
}

/** This network 0/8, loopback 127/8 and reserved 240/4: RFC 6890. */
function isNeverADestination(ip: Ipv4): boolean {
  const first = ip >>> 24;
  return first === 0 || first === 127 || first >= 240;
}

/** Whether the address is the last of the network's subnet, which stands for all of the network, RFC 919. */
function isLastOf(ip: Ipv4, { base, mask }: NetworkRow): boolean {
  return ip === (base | ~mask);
}
