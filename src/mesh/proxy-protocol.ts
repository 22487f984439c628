// The PROXY protocol, version 2: who the client is, before its first byte (haproxy's proxy-protocol.txt, section 2.2).
import { ipv4 } from "../lib/ip.ts";

const SIGNATURE = Buffer.from("\r\n\r\n\0\r\nQUIT\n", "latin1");
const VERSION_AND_PROXY = 0x21;
const TCP_OVER_IPV4 = 0x11;
const ADDRESS_BYTES = 12;

export interface TcpEnds {
  client: { address: string; port: number };
  /** Where the client has connected to. */
  server: { address: string; port: number };
}

/** The header, of IPv4 addresses. */
export function proxyHeader({ client, server }: TcpEnds): Buffer {
  const header = Buffer.alloc(SIGNATURE.length + 4 + ADDRESS_BYTES);
  SIGNATURE.copy(header);
  let at = SIGNATURE.length;
  at = header.writeUInt8(VERSION_AND_PROXY, at);
  at = header.writeUInt8(TCP_OVER_IPV4, at);
  at = header.writeUInt16BE(ADDRESS_BYTES, at);
  at = header.writeInt32BE(ipv4(client.address), at);
  at = header.writeInt32BE(ipv4(server.address), at);
  at = header.writeUInt16BE(client.port, at);
  header.writeUInt16BE(server.port, at);
  return header;
}
