// Network interfaces of this namespace, asked of the kernel without a process; netdevice(7).
import * as libc from "./libc.ts";
import { Family, IFREQ_VALUE_AT, interfaceRequest, openSocket, SocketType } from "./sockets.ts";

const SIOCGIFMTU = 0x8921;

/** The interface's MTU; undefined when there is no such interface. */
export function mtuOf(name: string): number | undefined {
  const request = interfaceRequest(name);
  if (request === undefined) return undefined;
  const fd = openSocket(Family.Inet, SocketType.Datagram);
  try {
    return libc.ioctl(fd, SIOCGIFMTU, request) < 0 ? undefined : request.readInt32LE(IFREQ_VALUE_AT);
  } finally {
    libc.close(fd);
  }
}
