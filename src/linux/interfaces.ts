// Network interfaces of this namespace, asked of the kernel without a process; netdevice(7).
import * as libc from "./libc.ts";

const AF_INET = 2;
const SOCK_DGRAM = 2;
const SOCK_CLOEXEC = 0x80000;
const SIOCGIFMTU = 0x8921;
const IFNAME_BYTES = 16;
const IFREQ_BYTES = 40;

/** The interface's MTU; undefined when there is no such interface. */
export function mtuOf(name: string): number | undefined {
  const request = Buffer.alloc(IFREQ_BYTES);
  if (Buffer.byteLength(name) >= IFNAME_BYTES) return undefined;
  request.write(name);
  const fd = libc.checked("socket", libc.socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  try {
    return libc.ioctl(fd, SIOCGIFMTU, request) < 0 ? undefined : request.readInt32LE(IFNAME_BYTES);
  } finally {
    libc.close(fd);
  }
}
