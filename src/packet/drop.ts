// The reasons why a packet stopped. Each is a counter, and its name is what a person reads.

/** None: the packet goes on. Each other value is a counter. */
export const Drop = {
  None: 0,
  // The packet is not whole.
  TooShort: 1,
  BadVersion: 2,
  BadHeaderLength: 3,
  BadTotalLength: 4,
  BadHeaderChecksum: 5,
  BadTransportHeader: 6,
  BadTransportChecksum: 7,
  // The frame is not one for us.
  UnknownVtep: 8,
  NoVni: 9,
  UnknownVni: 10,
  UnknownEtherType: 11,
  VlanTag: 12,
  ArpNotOurs: 13,
  BadBfd: 14,
  // The packet may not go there.
  SpoofedSource: 15,
  BadDestination: 16,
  NotAllowed: 17,
  NoRoute: 18,
  NoTask: 19,
  NoService: 20,
  NoFlow: 21,
  FragmentWithoutFirst: 22,
  TooBig: 23,
  CongestionMarked: 24,
  // We ran out of something.
  FlowTableFull: 25,
  PortsExhausted: 26,
  PeerGone: 27,
  FlowReset: 28,
  DeviceRefused: 29,
  UnderlayRefused: 30,
  IcmpUnrelated: 31,
  BadFragment: 32,
  TtlExpired: 33,
  BadSuperPacket: 34,
  // The kernel dropped it before the agent saw it.
  UnderlayOverrun: 35,
  DeviceOverrun: 36,
  // The packet's holder has its share of the flow table.
  FlowShareTaken: 37,
  TooManyNewFlows: 38,
  // Multicast and broadcast, which the overlay does not carry.
  Multicast: 39,
  // Sealed networks.
  ClearPacket: 40,
  SealedPacket: 41,
  UnknownSpi: 42,
  BadSeal: 43,
  Replayed: 44,
  NoKey: 45,
} as const;
export type Drop = (typeof Drop)[keyof typeof Drop];

/** Counter names, indexed by Drop. */
export const DROP_NAMES: readonly string[] = Object.entries(Drop)
  .sort(([, a], [, b]) => a - b)
  .map(([name]) => name.replace(/(?!^)[A-Z]/g, (letter) => `-${letter}`).toLowerCase());
