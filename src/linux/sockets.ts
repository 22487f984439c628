// Sockets and network interfaces in the kernel's numbers: families, types, options and control messages of socket(2),
// socket(7), ip(7), udp(7) and packet(7), and the requests of netdevice(7).
import * as libc from "./libc.ts";

/** Address families. */
export const Family = { Unix: 1, Inet: 2, Netlink: 16, Packet: 17 } as const;

export const SocketType = { Stream: 1, Datagram: 2, Raw: 3 } as const;

const SOCK_NONBLOCK = 0x800;
const SOCK_CLOEXEC = 0x80000;

/** Levels of options and of control messages. */
export const Level = { Socket: 1, Ip: 0, Udp: 17, Packet: 263 } as const;

/** Types of control messages, each at the level of its protocol. */
export const ControlMessage = { ReceiveOverflow: 40, Tos: 1, UdpSegment: 103, UdpGro: 104 } as const;

/** Socket options whose value is a number, as pairs of level and name. */
export const Option = {
  SendBuffer: [Level.Socket, 7],
  ReceiveBuffer: [Level.Socket, 8],
  ReusePort: [Level.Socket, 15],
  SendBufferForce: [Level.Socket, 32],
  ReceiveBufferForce: [Level.Socket, 33],
  ReceiveOverflow: [Level.Socket, 40],
  MtuDiscover: [Level.Ip, 10],
  ReceiveTos: [Level.Ip, 13],
  UdpGro: [Level.Udp, 104],
  PacketVirtioHeader: [Level.Packet, 15],
} as const;
export type Option = (typeof Option)[keyof typeof Option];

/** Opens a socket that does not block and that child processes do not get. Throws SyscallError. */
export function openSocket(
  family: (typeof Family)[keyof typeof Family],
  type: (typeof SocketType)[keyof typeof SocketType],
): number {
  return libc.checked("socket", libc.socket(family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
}

/** Returns whether the kernel took it. */
export function trySetOption(fd: number, [level, name]: Option, value: number): boolean {
  return libc.setsockopt(fd, level, name, Buffer.from(Int32Array.of(value).buffer), 4) === 0;
}

export function setOption(fd: number, option: Option, value: number): void {
  if (!trySetOption(fd, option, value)) throw libc.syscallError(`setsockopt(${option.join(", ")})`);
}

// struct ifreq: the interface's name, then what is asked or answered.
const IFREQ_BYTES = 40;
/** The offset of the value in a request; a name is shorter by its closing zero. */
export const IFREQ_VALUE_AT = 16;

/** A request about the interface with this name; undefined: no interface can have such a long name. */
export function interfaceRequest(name: string): Buffer | undefined {
  if (Buffer.byteLength(name) >= IFREQ_VALUE_AT) return undefined;
  const request = Buffer.alloc(IFREQ_BYTES);
  request.write(name);
  return request;
}
