// The states of a flow: how its packets move them, and the time that a flow may be idle in each.
//
//   SynSent -> SynReceived -> Established -> FinWait <-> CloseWait -> LastAck -> TimeWait
//   (the original's SYN, the reply's SYN, an ACK, one side's FIN, everything acknowledged or not, the other side's FIN, everything
//   acknowledged), and Closed from everywhere by a RST; Unreplied -> Replied for all that is not TCP. tcp-sequences.ts says
//   which segments count.
import {
  ICMP_TIMEOUT_SECONDS,
  OTHER_TIMEOUT_SECONDS,
  TCP_TIMEOUT_SECONDS,
  UDP_TIMEOUT_SECONDS,
} from "../lib/flow-timeouts.ts";
import * as ip from "../packet/ipv4.ts";
import { Flag } from "../packet/tcp.ts";
import { FlowState } from "./flow-entries.ts";

/** Seconds, indexed by FlowState; TCP's states only. */
const TCP_SECONDS: readonly number[] = Object.entries(FlowState).map(
  ([name]) => TCP_TIMEOUT_SECONDS[name as keyof typeof TCP_TIMEOUT_SECONDS] ?? 0,
);

const BOTH_FINS = 3;

/** The state of a flow whose first packet this is. TCP that is met in mid-stream counts as established. */
export function firstState(protocol: number, tcpFlags: number): FlowState {
  if (protocol !== ip.Protocol.Tcp) return FlowState.Unreplied;
  if ((tcpFlags & Flag.Rst) !== 0) return FlowState.Closed;
  return (tcpFlags & (Flag.Syn | Flag.Ack)) === Flag.Syn ? FlowState.SynSent : FlowState.Established;
}

/** The state of a flow that is not TCP after a packet in one direction. */
export function nextState(state: FlowState, isReply: boolean): FlowState {
  return isReply ? FlowState.Replied : state;
}

/**
 * The state of a TCP flow after a segment that counts and is no reset. `fins` says which sides have sent their FIN, in this
 * segment or before: 1, 2, or 3 for both. `isOutstanding` says whether either side has sent data that is not acknowledged.
 */
export function nextTcpState(
  state: FlowState,
  isReply: boolean,
  tcpFlags: number,
  fins: number,
  isOutstanding: boolean,
): FlowState {
  if (state >= FlowState.TimeWait) return state;
  if (fins === BOTH_FINS) return isOutstanding ? FlowState.LastAck : FlowState.TimeWait;
  if (fins !== 0) return isOutstanding ? FlowState.FinWait : FlowState.CloseWait;
  const isSyn = (tcpFlags & Flag.Syn) !== 0;
  if (state === FlowState.SynSent && isReply) return isSyn ? FlowState.SynReceived : FlowState.Established;
  if (state === FlowState.SynReceived && !isSyn && (tcpFlags & Flag.Ack) !== 0) return FlowState.Established;
  return state;
}

export function timeoutSeconds(state: FlowState, protocol: number): number {
  if (state >= FlowState.SynSent) return TCP_SECONDS[state]!;
  if (protocol === ip.Protocol.Udp)
    return state === FlowState.Replied ? UDP_TIMEOUT_SECONDS.Replied : UDP_TIMEOUT_SECONDS.Unreplied;
  return protocol === ip.Protocol.Icmp ? ICMP_TIMEOUT_SECONDS : OTHER_TIMEOUT_SECONDS;
}

/** Whether the flow ends: it carries nothing more for either side. */
export function isClosing(state: FlowState): boolean {
  return state >= FlowState.LastAck;
}

/**
 * Whether a new SYN may take the place of a flow in this state (RFC 9293 section 3.10.7.4, TIME-WAIT). Before, what one side
 * sent last may still be on its way.
 */
export function isOver(state: FlowState): boolean {
  return state >= FlowState.TimeWait;
}
