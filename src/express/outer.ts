// Where the headers of a VXLAN frame begin: outer Ethernet, IPv4, UDP and VXLAN, then the inner frame. An outer IP header with
// options is none of the lane's.
import { ETHERNET_BYTES } from "../packet/ethernet.ts";
import { IPV4_BYTES } from "../packet/ipv4.ts";
import { UDP_BYTES } from "../packet/udp.ts";
import { VXLAN_BYTES } from "../packet/vxlan.ts";

export const IP_AT = ETHERNET_BYTES;
export const UDP_AT = IP_AT + IPV4_BYTES;
export const VXLAN_AT = UDP_AT + UDP_BYTES;
export const INNER_FRAME_AT = VXLAN_AT + VXLAN_BYTES;
export const INNER_IP_AT = INNER_FRAME_AT + ETHERNET_BYTES;
/** Bytes that encapsulation adds to a frame, and to an IP packet. */
export const OVERHEAD_BYTES = INNER_FRAME_AT;
/** The bits of a TOS field that tell congestion, RFC 3168. */
export const ECN_MASK = 3;

export const ADJUST_AT_MAC = 1; // BPF_ADJ_ROOM_MAC: the room is behind the Ethernet header
// Flags of bpf_skb_adjust_room().
/** The segments of a super-packet stay as long as they are. */
export const FIXED_GSO = 1n << 0n;
export const ENCAP_L3_IPV4 = 1n << 1n;
export const ENCAP_L4_UDP = 1n << 4n;
/** What the card has verified stays known; bpf_csum_level() says for which header. */
export const NO_CSUM_RESET = 1n << 5n;
export const ENCAP_L2_ETH = 1n << 6n;
export const ENCAP_L2_SHIFT = 56n;
