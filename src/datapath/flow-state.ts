// How a flow's packets move its state, and how long each state may be idle.
//
//   SynSent -> SynReceived -> Established -> FinWait or CloseWait -> LastAck -> TimeWait
//   (the original's SYN, the reply's SYN, the original's ACK, a FIN of the original or of the reply side, the other
//   side's FIN, its ACK), and Closed from everywhere by a RST; Unreplied -> Replied for all that is not TCP.
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

/** The state of a flow whose first packet this is. TCP that is met in mid-stream counts as established. */
export function firstState(protocol: number, tcpFlags: number): FlowState {
  if (protocol !== ip.Protocol.Tcp) return FlowState.Unreplied;
  if ((tcpFlags & Flag.Rst) !== 0) return FlowState.Closed;
  return (tcpFlags & (Flag.Syn | Flag.Ack)) === Flag.Syn ? FlowState.SynSent : FlowState.Established;
}

/** The state after a packet in one direction. */
export function nextState(state: FlowState, isReply: boolean, tcpFlags: number): FlowState {
  if (state < FlowState.SynSent) return isReply ? FlowState.Replied : state;
  if ((tcpFlags & Flag.Rst) !== 0) return FlowState.Closed;
  const fin = (tcpFlags & Flag.Fin) !== 0;
  switch (state) {
    case FlowState.SynSent:
      if (!isReply) return state;
      return (tcpFlags & Flag.Syn) !== 0 ? FlowState.SynReceived : FlowState.Established;
    case FlowState.SynReceived:
      if (!fin) return !isReply && (tcpFlags & Flag.Ack) !== 0 ? FlowState.Established : state;
      return isReply ? FlowState.CloseWait : FlowState.FinWait;
    case FlowState.Established:
      if (!fin) return state;
      return isReply ? FlowState.CloseWait : FlowState.FinWait;
    case FlowState.FinWait:
      return fin && isReply ? FlowState.LastAck : state;
    case FlowState.CloseWait:
      return fin && !isReply ? FlowState.LastAck : state;
    case FlowState.LastAck:
      return (tcpFlags & (Flag.Ack | Flag.Fin)) === Flag.Ack ? FlowState.TimeWait : state;
    default:
      return state;
  }
}

export function timeoutSeconds(state: FlowState, protocol: number): number {
  if (state >= FlowState.SynSent) return TCP_SECONDS[state]!;
  if (protocol === ip.Protocol.Udp)
    return state === FlowState.Replied ? UDP_TIMEOUT_SECONDS.Replied : UDP_TIMEOUT_SECONDS.Unreplied;
  return protocol === ip.Protocol.Icmp ? ICMP_TIMEOUT_SECONDS : OTHER_TIMEOUT_SECONDS;
}

/** Whether a new SYN may take the place of a flow in this state (RFC 9293 section 3.10.7.4, TIME-WAIT). */
export function isClosing(state: FlowState): boolean {
  return state >= FlowState.LastAck;
}
