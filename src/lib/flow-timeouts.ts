// How long a flow may be idle in each state, in seconds. The flow table uses these times, and the kernel's own tracking of the
// same connections must not have shorter ones.

/**
 * TCP. RFC 5382 REQ-5: a connection that opens or closes is kept for four minutes at least, an established one for two hours
 * and four minutes; a client repeats a first SYN that has no answer within about one minute. nf_conntrack goes from FIN_WAIT to
 * CLOSE_WAIT by any acknowledgment, the flow table by that of the FIN: nf_conntrack's CLOSE_WAIT compares with both.
 */
export const TCP_TIMEOUT_SECONDS = {
  SynSent: 120,
  SynReceived: 240,
  Established: 432_000,
  /** One side has sent its FIN, and data of either side is not acknowledged yet. */
  FinWait: 432_000,
  /** One side has sent its FIN, and everything is acknowledged: the other side may still send, or let its peer wait. */
  CloseWait: 3600,
  /** Both sides have sent their FINs. */
  LastAck: 240,
  TimeWait: 240,
  /** A reset has ended it. */
  Closed: 10,
} as const;

/** UDP. nf_conntrack counts a flow as replied (`stream`) only after two seconds: its `unreplied` compares with both. */
export const UDP_TIMEOUT_SECONDS = { Unreplied: 30, Replied: 120 } as const;

export const ICMP_TIMEOUT_SECONDS = 30;

/** The idle time of every other protocol. */
export const OTHER_TIMEOUT_SECONDS = 600;
