// Options of sockets whose value is a number: socket(7), ip(7), udp(7) and packet(7).
import * as libc from "./libc.ts";

const SOL_SOCKET = 1;
const IPPROTO_IP = 0;
const SOL_UDP = 17;
const SOL_PACKET = 263;

/** Socket options, as pairs of level and name. */
export const Option = {
  SendBuffer: [SOL_SOCKET, 7],
  ReceiveBuffer: [SOL_SOCKET, 8],
  ReusePort: [SOL_SOCKET, 15],
  SendBufferForce: [SOL_SOCKET, 32],
  ReceiveBufferForce: [SOL_SOCKET, 33],
  ReceiveOverflow: [SOL_SOCKET, 40],
  MtuDiscover: [IPPROTO_IP, 10],
  ReceiveTos: [IPPROTO_IP, 13],
  UdpGro: [SOL_UDP, 104],
  PacketVirtioHeader: [SOL_PACKET, 15],
} as const;
export type Option = (typeof Option)[keyof typeof Option];

/** Returns whether the kernel took it. */
export function trySetOption(fd: number, [level, name]: Option, value: number): boolean {
  return libc.setsockopt(fd, level, name, Buffer.from(Int32Array.of(value).buffer), 4) === 0;
}

export function setOption(fd: number, option: Option, value: number): void {
  if (!trySetOption(fd, option, value)) throw libc.syscallError(`setsockopt(${option.join(", ")})`);
}
