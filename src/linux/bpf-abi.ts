// What programs for tc and tcx know of the kernel, by the names of include/uapi/linux/bpf.h: helper functions, the fields of
// their context, their verdicts.

/** Helper functions that a program calls. None wants a license that is compatible with the GPL. */
export const Helper = {
  MapLookup: 1,
  MapUpdate: 2,
  MapDelete: 3,
  L3CsumReplace: 10,
  L4CsumReplace: 11,
  Redirect: 23,
  SkbLoadBytes: 26,
  CsumDiff: 28,
  SkbChangeType: 32,
  GetHashRecalc: 34,
  SkbChangeTail: 38,
  SkbPullData: 39,
  CsumUpdate: 40,
  SkbAdjustRoom: 50,
  SkLookupUdp: 85,
  SkRelease: 86,
  CsumLevel: 135,
  RedirectNeigh: 152,
  RedirectPeer: 155,
  KtimeGetCoarseNs: 160,
} as const;

/** Offsets of the fields of the context, struct __sk_buff: of 4 bytes, but for `tstamp`. */
export const Skb = {
  Len: 0,
  PktType: 4,
  Mark: 8,
  Protocol: 16,
  VlanPresent: 20,
  Priority: 32,
  IngressIfindex: 36,
  Ifindex: 40,
  Cb: 48, // five
  Hash: 68,
  Data: 76,
  DataEnd: 80,
  Tstamp: 152,
  WireLen: 160,
  GsoSegs: 164,
  GsoSize: 176,
} as const;
export const SKB_BYTES = 192;

/** Offsets of struct bpf_sock_tuple for IPv4: whom a socket of this machine talks to, and by what. All in the network's order. */
export const SockTuple = {
  /** The other end's. */
  Source: 0,
  /** This machine's. */
  Destination: 4,
  SourcePort: 8,
  DestinationPort: 10,
} as const;
export const SOCK_TUPLE_BYTES = 12;
/** In the place of a network namespace: that of the packet's link. */
export const CURRENT_NAMESPACE = -1;

/** Verdicts of a program on a tcx link. */
export const Tcx = {
  /** The next program, filter or the stack decides. */
  Next: -1,
  /** The packet goes on, past the other programs. */
  Pass: 0,
  Drop: 2,
  /** What bpf_redirect() and its kin return. */
  Redirect: 7,
} as const;
