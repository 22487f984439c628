// What the express lane has counted, taken over into the flow table: packets and bytes, when they passed, TCP's numbers, and what follows
// from them for the state of the flow. Workers do it for a flow that they look at, and the main thread for all of them in turn.
import type { Ipv4 } from "../lib/ip.ts";
import { Protocol } from "../packet/ipv4.ts";
import { Ride } from "./express-marks.ts";
import { FlowState } from "./flow-entries.ts";
import { timeoutSeconds } from "./flow-state.ts";
import type { FlowTable } from "./flow-table.ts";
import type { LaneReading } from "./ports.ts";
import { DEVICE } from "./rows.ts";

/** Counts packets of the lane that came from one VTEP and went to another; DEVICE stands for this node. */
export type CountCarried = (from: Ipv4, to: Ipv4, packets: number, bytes: number) => void;

export class ExpressCounts {
  /** Packets of the lane that take() has counted. */
  packets = 0;
  bytes = 0;
  readonly #flows: FlowTable;
  readonly #countCarried: CountCarried;

  constructor(flows: FlowTable, countCarried: CountCarried) {
    this.#flows = flows;
    this.#countCarried = countCarried;
  }

  /** Takes over a reading of the entry, if its flow is still the one with this version. */
  take(entry: number, version: number, reading: LaneReading): void {
    const flows = this.#flows;
    const isNew = ((reading.packets - flows.carriedPacketsOf(entry)) | 0) > 0;
    if (!isNew && reading.seenSeconds <= flows.lastSeenOf(entry)) return;
    flows.lock();
    if (flows.isCurrent(entry, version)) this.takeLocked(entry, reading);
    flows.unlock();
  }

  /** As take(), under the lock of the table. */
  takeLocked(entry: number, reading: LaneReading): void {
    const flows = this.#flows;
    if (reading.seenSeconds > flows.lastSeenOf(entry)) flows.setLastSeen(entry, reading.seenSeconds);
    flows.takeCarried(entry, reading.packets, reading.bytes);
    const { newPackets, newBytes } = flows;
    if (newPackets === 0) return;
    this.packets += newPackets;
    this.bytes += newBytes;
    const from = flows.fromOf(entry);
    this.#countCarried(from, flows.toOf(entry), newPackets, newBytes);
    if (from !== DEVICE) flows.addRide(entry, Ride.Heard);
    if (flows.protocolOf(entry) === Protocol.Tcp) this.#takeNumbers(entry, reading);
    this.#moveState(entry);
  }

  /** The lane's last segment is later than those that the agent saw before it. What is acknowledged has been sent. */
  #takeNumbers(entry: number, { nextSequence, acknowledgment }: LaneReading): void {
    const flows = this.#flows;
    const other = entry ^ 1;
    flows.setNextSequence(entry, nextSequence);
    flows.setAcknowledged(other, acknowledgment);
    if (((acknowledgment - flows.nextSequenceOf(other)) | 0) > 0) flows.setNextSequence(other, acknowledgment);
    if (((nextSequence - flows.acknowledgedOf(entry)) | 0) < 0)
      flows.setNextSequence(entry, flows.acknowledgedOf(entry));
  }

  /** A flow enters before the segment that ends its handshake, or the first reply, which then pass in the lane. */
  #moveState(entry: number): void {
    const flows = this.#flows;
    const state = flows.stateOf(entry);
    const isReply = (entry & 1) === 1;
    let after = state;
    if (isReply && state === FlowState.Unreplied) after = FlowState.Replied;
    else if (!isReply && state === FlowState.SynReceived) after = FlowState.Established;
    if (after !== state) flows.changeStateLocked(entry, after, timeoutSeconds(after, flows.protocolOf(entry)));
  }
}
