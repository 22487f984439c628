// The kinds of IPv4 and IPv6 addresses, in whatever form they are written: `::1`, `0:0::1` and `::ffff:127.0.0.1` are all
// loopback. The text must be an address (isIP of node:net).
import { BlockList, isIPv4 } from "node:net";

/** `::ffff:192.0.2.1` and `::192.0.2.1`. */
const ipv4InIpv6 = new BlockList();
ipv4InIpv6.addSubnet("::", 96, "ipv6"); // RFC 4291 section 2.5.5.1; unspecified and loopback besides
ipv4InIpv6.addSubnet("::ffff:0:0", 96, "ipv6"); // section 2.5.5.2

const loopback = new BlockList();
loopback.addSubnet("127.0.0.0", 8);
loopback.addAddress("::1", "ipv6");

const linkLocal = new BlockList();
linkLocal.addSubnet("fe80::", 10, "ipv6"); // RFC 4291 section 2.5.6

/** This network, loopback, multicast and reserved: RFC 6890 and RFC 4291. */
const special = new BlockList();
special.addSubnet("0.0.0.0", 8);
special.addSubnet("127.0.0.0", 8);
special.addSubnet("224.0.0.0", 3);
special.addSubnet("ff00::", 8, "ipv6");

/** Whether one host of a network can have the address: no loopback, link-local, multicast, unspecified or reserved one. */
export function isUnicast(address: string): boolean {
  return !isIn(special, address) && !isLinkLocal(address) && !isIpv4InIpv6(address);
}

/** Whether it is a link-local IPv6 address, which means a host only together with its link. */
export function isLinkLocal(address: string): boolean {
  return isIn(linkLocal, address);
}

export function isLoopback(address: string): boolean {
  return isIn(loopback, address);
}

/** A BlockList finds every IPv4 address in `::ffff:0:0/96`. */
function isIpv4InIpv6(address: string): boolean {
  return !isIPv4(address) && isIn(ipv4InIpv6, address);
}

function isIn(blocks: BlockList, address: string): boolean {
  const [withoutLink = ""] = address.split("%");
  return blocks.check(withoutLink, isIPv4(withoutLink) ? "ipv4" : "ipv6");
}
