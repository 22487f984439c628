// ICMP, RFC 792. The Packet view checks lengths.
export const ICMP_BYTES = 8;
export const CODE_AT = 1;
export const CHECKSUM_AT = 2;
/** The offset of the identifier, in an echo message. */
export const IDENTIFIER_AT = 4;
/** The offset of the MTU in "fragmentation needed", RFC 1191 section 4. */
export const NEXT_HOP_MTU_AT = 6;

export const Type = {
  EchoReply: 0,
  Unreachable: 3,
  SourceQuench: 4,
  Redirect: 5,
  Echo: 8,
  TimeExceeded: 11,
  ParameterProblem: 12,
} as const;

/** Codes of Type.Unreachable: RFC 792, RFC 1122 section 3.2.2.1, RFC 1812 section 5.2.7.1. */
export const Unreachable = { Network: 0, Host: 1, Port: 3, FragmentationNeeded: 4, Prohibited: 13 } as const;

/** Whether a message of this type quotes the packet that it is about. */
export function isError(type: number): boolean {
  return (
    type === Type.Unreachable ||
    type === Type.SourceQuench ||
    type === Type.Redirect ||
    type === Type.TimeExceeded ||
    type === Type.ParameterProblem
  );
}
