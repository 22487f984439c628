// Explicit congestion notification through the tunnel: RFC 6040.
import { get16, set16 } from "../lib/bytes.ts";
import { updateChecksum } from "./checksum.ts";
import { Drop } from "./drop.ts";
import * as ip from "./ipv4.ts";
import type { Packet } from "./packet.ts";

const ECN_MASK = 3;
const CONGESTION = 3;

/** The inner packet takes over congestion that the outer one met: RFC 6040 section 4.2, normal mode. */
export function combineEcn(packet: Packet, outerTos: number): Drop {
  const outer = outerTos & ECN_MASK;
  const { u8, at } = packet;
  const tos = u8[at + ip.TOS_AT]!;
  const inner = tos & ECN_MASK;
  // Figure 4: an outer CE marks, an outer ECT(1) turns an inner ECT(0) into ECT(1); all else stays.
  if (outer === CONGESTION && inner === 0) return Drop.CongestionMarked;
  const combined = inner !== 0 && (outer === CONGESTION || (outer === 1 && inner === 2)) ? outer : inner;
  if (combined === inner) return Drop.None;
  u8[at + ip.TOS_AT] = tos + combined - inner;
  const field = at + ip.CHECKSUM_AT;
  set16(
    u8,
    field,
    updateChecksum(get16(u8, field), combined - inner > 0 ? combined - inner : combined - inner + 0xffff),
  );
  return Drop.None;
}
