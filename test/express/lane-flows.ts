// A flow table and an installer over a rig's maps: entries of the table in the lane of the real kernel.

import { Ride, rideBit } from "../../src/datapath/express-marks.ts";
import { FlowState } from "../../src/datapath/flow-entries.ts";
import { FlowTable } from "../../src/datapath/flow-table.ts";
import type { LaneReading } from "../../src/datapath/ports.ts";
import { ExpressInstaller } from "../../src/express/installer.ts";
import { cidr, ipv4 } from "../../src/lib/ip.ts";
import { PacketMemory } from "../../src/packet/memory.ts";
import { swapPorts } from "../../src/packet/packet.ts";
import { reserve } from "../fakes/flows.ts";
import {
  CLIENT_PORT,
  type LaneRig,
  LOCAL,
  LOOPBACK,
  MTU,
  NEXT_HOP,
  PEER,
  POOL,
  ports,
  REMOTE,
  SELF,
  SERVER_PORT,
  SOURCE_PORT,
  VIP,
  VNI,
  VXLAN_PORT,
} from "./lane-rig.ts";

const CAPACITY = 1024;

export interface FlowFields {
  /** TCP's number, or UDP's. */
  protocol?: number;
  clientPort?: number;
  /** Where the client sends to. */
  address?: string;
  server?: string;
  /** The VTEP that the server is behind; "": this node. */
  to?: string;
}

export class LaneFlows {
  readonly table: FlowTable;
  readonly #rig: LaneRig;
  readonly #entries: number;
  readonly installer: ExpressInstaller;
  /** The links by which everything goes; 0: by none. */
  links = { toContainer: LOOPBACK, toPeer: LOOPBACK, toClient: LOOPBACK };
  readonly reading: LaneReading = { packets: 0, bytes: 0, seenSeconds: 0, nextSequence: 0, acknowledgment: 0 };

  /** `entries` is what the rig's map takes, `capacity` the flows that the table takes. */
  constructor(rig: LaneRig, entries = 64, capacity = CAPACITY) {
    this.#rig = rig;
    this.#entries = entries;
    this.table = FlowTable.open(new ArrayBuffer(FlowTable.bytesFor(capacity)), capacity, 7);
    this.installer = this.anotherWorker();
  }

  /** An installer over the same flows and maps; the caller closes it. */
  anotherWorker(): ExpressInstaller {
    const toContainer = (): number => this.links.toContainer;
    const toPeer = (): number => this.links.toPeer;
    const toClient = (): number => this.links.toClient;
    const client = { link: LOOPBACK, mtu: 1500, heedsTunnelMark: false };
    return new ExpressInstaller({
      ...{ memory: new PacketMemory(1 << 20), flows: this.table, maps: this.#rig.maps, capacity: this.#entries },
      ways: { toContainer, toPeer, toClient, client, forget() {}, forgetAll() {}, close() {} },
      pool: cidr(POOL),
      ...{ vtep: ipv4(SELF), sourcePorts: [SOURCE_PORT], nextHop: ipv4(NEXT_HOP) },
    });
  }

  /** A flow of a container of this node, LOCAL. Returns its original entry. */
  add({ protocol = 6, clientPort = CLIENT_PORT, address = VIP, server = REMOTE, to = PEER }: FlowFields = {}): number {
    const { table } = this;
    const key = ports(clientPort, SERVER_PORT);
    const vtep = to === "" ? 0 : ipv4(to);
    table.lock();
    const entry = reserve(
      table,
      [0, protocol, ipv4(LOCAL), ipv4(address), key],
      [vtep === 0 ? 0 : VNI, ipv4(server), ipv4(LOCAL), swapPorts(key)],
    );
    table.setPath(entry, 0, vtep, VNI);
    table.setPath(entry + 1, vtep, 0, VNI);
    if (address !== server) table.setVip(entry, ipv4(address));
    table.setTimeout(entry, 100);
    table.publish(entry, protocol === 6 ? FlowState.Established : FlowState.Replied);
    table.unlock();
    return entry;
  }

  /** Marks the entry and queues it, as ExpressFlows does. */
  enter(entry: number, groundSum = this.groundSum(entry), by = this.installer): boolean {
    this.table.admit(entry, groundSum);
    this.table.addRide(entry, rideBit(entry));
    return by.enter(entry, this.table.versionOf(entry), groundSum, MTU, VXLAN_PORT);
  }

  isMarked(entry: number): boolean {
    return this.table.isRiding(entry, this.table.versionOf(entry));
  }

  isRefused(entry: number): boolean {
    return (this.table.rideOf(entry) & Ride.Refused) !== 0;
  }

  /** Lets something happen when the table is next asked for a mark, after it has answered: what another worker does at that moment. */
  afterNextLook(happens: () => void): void {
    const { table } = this;
    table.isRiding = (entry, version) => {
      delete (table as Partial<FlowTable>).isRiding; // the class's own again
      const answer = table.isRiding(entry, version);
      happens();
      return answer;
    };
  }

  groundSum(entry: number): number {
    const { table, installer } = this;
    const original = entry & ~1;
    const [client, server] = [table.sourceOf(original), table.sourceOf(original + 1)];
    return installer.groundSum(client, server, table.vipOf(original), table.fromOf(entry), table.toOf(entry));
  }

  read(entry: number): boolean {
    return this.installer.read(entry, this.table.versionOf(entry), this.reading);
  }

  take(entry: number): boolean {
    return this.installer.take(entry, this.table.versionOf(entry), this.reading);
  }
}
