// Sockets of a network namespace as the kernel lists them: proc_net_tcp(5), and its like for UDP and IPv6.
import { endianness } from "node:os";
import { formatIpv4 } from "./ip.ts";

export interface ListedSocket {
  /** IPv4 mapped into IPv6 as IPv4; other IPv6 addresses but the unspecified one are undefined. */
  address: string | undefined;
  port: number;
}

/** What listens, of TCP. */
export const TCP_LISTEN = "0A";
/** What is connected to nobody, of UDP: that is, takes datagrams of anybody. */
export const UDP_UNCONNECTED = "07";

/** Lines of `/proc/PID/net/tcp` and so on: slot, local ADDRESS:PORT in hex, remote, state and more. */
export function socketsIn(table: string, wantedState: string): ListedSocket[] {
  const sockets: ListedSocket[] = [];
  for (const line of table.split("\n")) {
    const [, local, , state] = line.trim().split(/\s+/);
    if (state !== wantedState || local === undefined) continue;
    const [address = "", port = ""] = local.split(":");
    sockets.push({ address: addressIn(address), port: Number.parseInt(port, 16) });
  }
  return sockets;
}

/** Words of 32 bits, each printed as a number of the machine's byte order. */
function addressIn(hex: string): string | undefined {
  const words = hex.match(/.{8}/g)?.map((word) => networkOrder(Buffer.from(word, "hex")).readInt32BE()) ?? [];
  const last = words.at(-1);
  if (last === undefined) return undefined;
  if (words.length === 1) return formatIpv4(last);
  const isMapped = words[0] === 0 && words[1] === 0 && words[2] === 0xffff;
  if (isMapped) return formatIpv4(last);
  return words.every((word) => word === 0) ? "0.0.0.0" : undefined;
}

function networkOrder(bytes: Buffer): Buffer {
  return endianness() === "LE" ? bytes.reverse() : bytes;
}
