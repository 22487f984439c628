// How the data path says that a packet travels sealed: by a flag in the VNI that it hands on with a packet and keeps with a flow. The keys of
// flows are made of bare VNIs, so that a packet that comes clear meets the sealed flow that it pretends to be of, and is refused.

import { Drop } from "../packet/drop.ts";
import { ESP_BYTES, mostInnerBytes } from "../packet/esp.ts";
import { ETHERNET_BYTES } from "../packet/ethernet.ts";
import * as udp from "../packet/udp.ts";
import { MAX_VNI, VXLAN_BYTES } from "../packet/vxlan.ts";

/** Above the 24 bits of a VNI. */
export const SEALED = MAX_VNI + 1;

/** Bytes of a sealed UDP payload before the VXLAN header: ESP, and the inner UDP header. */
export const LEAD_BYTES = ESP_BYTES + udp.UDP_BYTES;

/** The most by which sealedMtu() is less than what it is given. */
export const SEALED_BYTES = 45;

const INNER_HEADERS = udp.UDP_BYTES + VXLAN_BYTES + ETHERNET_BYTES;

export function isSealed(vni: number): boolean {
  return (vni & SEALED) !== 0;
}

/** The VNI without the flag. */
export function bareVni(vni: number): number {
  return vni & MAX_VNI;
}

/** Why a packet that came on `zone` is not one of a flow that travels on `vni`; None: both are sealed, or neither is. */
export function wayMismatch(zone: number, vni: number): Drop {
  if (((zone ^ vni) & SEALED) === 0) return Drop.None;
  return isSealed(zone) ? Drop.SealedPacket : Drop.ClearPacket;
}

/** The largest inner IP packet that passes sealed where clear ones of `mtu` bytes pass. */
export function sealedMtu(mtu: number): number {
  return mostInnerBytes(mtu + VXLAN_BYTES + ETHERNET_BYTES) - INNER_HEADERS;
}

/** The largest clear packet that is on the underlay no longer than a sealed one of `sealedMtu(mtu)` bytes. */
export function clearMtu(mtu: number): number {
  return mtu - ((mtu - 2) & 3); // ESP pads to words
}
