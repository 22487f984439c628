// The TCP segments that move a flow's state: those whose numbers its two ends would take. So a host that can only send in one direction,
// and sees nothing of the other, cannot end a connection or take its place (RFC 5961).
//
// The table keeps two numbers for each direction: the end of what was sent, and what its receiver has acknowledged. A segment
// is in turn when it begins between the two. A segment out of turn passes as it is, and its receiver judges it: a challenge ACK
// of the receiver passes back (RFC 5961 section 3.2). The segment counts once the receiver has acknowledged exactly its end.
// That happens after earlier segments were lost on the way here, and for a SYN whose sender has forgotten the connection.
// The number 0 means that none has been seen: the next segment sets it.
import type { Packet } from "../packet/packet.ts";
import { acknowledgment, Flag, occupied, sequence } from "../packet/tcp.ts";
import { FlowState } from "./flow-entries.ts";
import type { FlowTable } from "./flow-table.ts";

/** Bytes that may be sent and not acknowledged, at most: RFC 7323 section 2.3. */
const LARGEST_WINDOW = 2 ** 30;

/** What a segment does to its flow: the bits of judge(). */
export const Effect = {
  None: 0,
  /** It may move the state. */
  Counts: 1,
  /** It ends the connection. */
  Resets: 2,
  /** It accepts a SYN that we took for a stray: another connection is in the place of the one that we know. */
  Restarts: 4,
  /** It, or what it acknowledges, was its direction's last: for the flow's `fins`. */
  OriginalFin: 8,
  ReplyFin: 16,
} as const;

/** What the last segment out of turn was. */
const Late = { None: 0, Data: 1, Fin: 2, Syn: 3 } as const;

export class TcpSequences {
  readonly #flows: FlowTable;
  #isInTurn = false;

  constructor(flows: FlowTable) {
    this.#flows = flows;
  }

  /** Takes note of the segment, and says what it does, as bits of Effect. Hot path: must not allocate. */
  judge(entry: number, packet: Packet, state: FlowState): number {
    const flows = this.#flows;
    const { u8, transport, tcpFlags } = packet;
    const start = sequence(u8, transport);
    const isSyn = (tcpFlags & Flag.Syn) !== 0;
    const isFin = (tcpFlags & Flag.Fin) !== 0;
    const hasAck = (tcpFlags & Flag.Ack) !== 0;
    const ack = hasAck ? acknowledgment(u8, transport) : 0;
    this.#isInTurn = false;
    if ((tcpFlags & Flag.Rst) !== 0) return this.#isReset(entry, start, hasAck, ack, state) ? Effect.Resets : 0;
    const end = (start + packet.payloadBytes + occupied(tcpFlags)) | 0;
    const other = entry ^ 1;
    if (hasAck && isSyn && flows.lateKindOf(other) === Late.Syn && ack === flows.lateEndOf(other)) {
      this.#restart(entry, start, end, ack);
      return Effect.Counts | Effect.Restarts;
    }
    let effect: number = Effect.None;
    const mayAnswer = !hasAck || this.#takesAcknowledgment(other, ack, state);
    if (hasAck && this.#acknowledged(other, ack)) effect |= finOf(other);
    const next = flows.nextSequenceOf(entry);
    if (next === 0) {
      if (!mayAnswer) return effect; // an answer to nothing that was asked
      flows.setNextSequence(entry, end);
      flows.setAcknowledged(entry, start);
      this.#isInTurn = true;
      if (hasAck && flows.nextSequenceOf(other) === 0) {
        flows.setNextSequence(other, ack); // met in mid-stream
        flows.setAcknowledged(other, ack);
      }
    } else {
      this.#isInTurn = this.isInTurn(entry, start) && (!isSyn || end === next);
      if (this.#isInTurn) this.#advance(entry, end);
      else if (isSyn) flows.setLate(entry, (start + 1) | 0, Late.Syn);
      else if (((end - next) | 0) > 0) flows.setLate(entry, end, isFin ? Late.Fin : Late.Data);
    }
    if (!this.#isInTurn) return effect;
    if (isFin) effect |= finOf(entry);
    return mayAnswer ? effect | Effect.Counts : effect;
  }

  /** Notes segments that continue the one judged last, up to `end`. */
  follow(entry: number, end: number): void {
    if (this.#isInTurn) this.#advance(entry, end);
    else this.#flows.setLate(entry, end, Late.Data);
  }

  /** Whether a segment in this direction begins in what is not acknowledged yet, or right behind it. */
  isInTurn(entry: number, start: number): boolean {
    const next = this.#flows.nextSequenceOf(entry);
    const from = this.#flows.acknowledgedOf(entry) || next;
    return ((start - from) | 0) >= 0 && ((next - start) | 0) >= 0;
  }

  /** Whether the segment is one that the other side waits for: in turn, or the first answer to what it has sent. */
  isExpected(entry: number, packet: Packet, state: FlowState): boolean {
    const { u8, transport, tcpFlags } = packet;
    if (this.#flows.nextSequenceOf(entry) !== 0) return this.isInTurn(entry, sequence(u8, transport));
    return (tcpFlags & Flag.Ack) !== 0 && this.#takesAcknowledgment(entry ^ 1, acknowledgment(u8, transport), state);
  }

  /** Whether either side has sent what is not acknowledged. */
  isOutstanding(entry: number): boolean {
    const flows = this.#flows;
    return (
      flows.nextSequenceOf(entry) !== flows.acknowledgedOf(entry) ||
      flows.nextSequenceOf(entry ^ 1) !== flows.acknowledgedOf(entry ^ 1)
    );
  }

  /**
   * RFC 5961 section 3.2: a reset counts when it has the number that its receiver expects next. That is what was
   * acknowledged last, or the end of what has been sent meanwhile.
   */
  #isReset(entry: number, start: number, hasAck: boolean, ack: number, state: FlowState): boolean {
    const flows = this.#flows;
    const isReply = (entry & 1) === 1;
    // RFC 9293 section 3.10.7.3: a side that does not know the other side's numbers checks its own, which the reset acknowledges.
    if (isReply && state === FlowState.SynSent) return hasAck && this.#takesAcknowledgment(entry ^ 1, ack, state);
    if (isReply && state === FlowState.SynReceived && hasAck && ack === flows.nextSequenceOf(entry ^ 1)) return true;
    const next = flows.nextSequenceOf(entry);
    return next !== 0 && (start === next || start === flows.acknowledgedOf(entry));
  }

  /** Whether all that it acknowledges was sent. In answer to a first SYN it must acknowledge the SYN itself. */
  #takesAcknowledgment(other: number, ack: number, state: FlowState): boolean {
    const flows = this.#flows;
    const sent = flows.nextSequenceOf(other);
    if (sent === 0) return true;
    if (flows.lateKindOf(other) !== Late.None && ack === flows.lateEndOf(other)) return true;
    if (state === FlowState.SynSent && ((ack - flows.acknowledgedOf(other)) | 0) <= 0) return false;
    return ((sent - ack) | 0) >= 0;
  }

  /** Notes what is acknowledged of the other direction. Returns whether it was that direction's last segment, noted as late. */
  #acknowledged(other: number, ack: number): boolean {
    const flows = this.#flows;
    const sent = flows.nextSequenceOf(other);
    if (sent === 0) return false;
    if (this.isInTurn(other, ack)) {
      flows.setAcknowledged(other, ack);
      return false;
    }
    const kind = flows.lateKindOf(other);
    if (kind === Late.None || kind === Late.Syn || ack !== flows.lateEndOf(other)) return false;
    flows.setNextSequence(other, ack);
    flows.setAcknowledged(other, ack);
    flows.setLate(other, 0, Late.None);
    return kind === Late.Fin;
  }

  #restart(entry: number, start: number, end: number, ack: number): void {
    const flows = this.#flows;
    const other = entry ^ 1;
    flows.setNextSequence(entry, end);
    flows.setAcknowledged(entry, start);
    flows.setLate(entry, 0, Late.None);
    flows.setNextSequence(other, ack);
    flows.setAcknowledged(other, ack);
    flows.setLate(other, 0, Late.None);
    this.#isInTurn = true;
  }

  #advance(entry: number, end: number): void {
    const flows = this.#flows;
    if (((end - flows.nextSequenceOf(entry)) | 0) <= 0) return; // a retransmission
    flows.setNextSequence(entry, end);
    // This direction's acknowledgments may go another way, unseen.
    if (((end - flows.acknowledgedOf(entry)) | 0) > LARGEST_WINDOW)
      flows.setAcknowledged(entry, (end - LARGEST_WINDOW) | 0);
  }
}

const finOf = (entry: number): number => ((entry & 1) === 0 ? Effect.OriginalFin : Effect.ReplyFin);
