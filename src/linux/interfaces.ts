// Network interfaces of this namespace, asked of the kernel without a process; netdevice(7).
import * as libc from "./libc.ts";
import { Family, IFREQ_VALUE_AT, interfaceRequest, openSocket, SocketType } from "./sockets.ts";

const SIOCGIFNAME = 0x8910;
const SIOCGIFMTU = 0x8921;
const SIOCGIFHWADDR = 0x8927;
const SIOCGIFINDEX = 0x8933;
/** ARPHRD_ETHER of linux/if_arp.h. */
const ETHERNET = 1;

/** The interface's MTU; undefined when there is no such interface. */
export function mtuOf(name: string): number | undefined {
  return numberOf(name, SIOCGIFMTU);
}

/** The interface's index; undefined when there is no such interface. */
export function ifindexOf(name: string): number | undefined {
  return numberOf(name, SIOCGIFINDEX);
}

/** The name of the interface with this index; undefined when there is none. */
export function nameOfLink(index: number): string | undefined {
  const request = interfaceRequest("")!;
  request.writeInt32LE(index, IFREQ_VALUE_AT);
  if (!isAnswered(request, SIOCGIFNAME)) return undefined;
  return request.toString("latin1", 0, request.indexOf(0));
}

/** Whether frames of the interface begin with an Ethernet header. */
export function isEthernet(name: string): boolean {
  return ((numberOf(name, SIOCGIFHWADDR) ?? 0) & 0xffff) === ETHERNET;
}

function numberOf(name: string, operation: number): number | undefined {
  const request = interfaceRequest(name);
  if (request === undefined) return undefined;
  return isAnswered(request, operation) ? request.readInt32LE(IFREQ_VALUE_AT) : undefined;
}

/** Whether the kernel has written its answer into the request. */
function isAnswered(request: Buffer, operation: number): boolean {
  const fd = openSocket(Family.Inet, SocketType.Datagram);
  try {
    return libc.ioctl(fd, operation, request) >= 0;
  } finally {
    libc.close(fd);
  }
}
