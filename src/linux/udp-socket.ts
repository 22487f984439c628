// UDP sockets as the underlay wants them: making one, its options, and finding out what UDP_SEGMENT can do here.
import { formatIpv4, type Ipv4, ipv4 } from "../lib/ip.ts";
import type { PacketMemory } from "../packet/memory.ts";
import { DatagramList } from "./datagram-list.ts";
import * as libc from "./libc.ts";
import { Poller } from "./poll.ts";
import { Family, Option, openSocket, SocketType, setOption, trySetOption } from "./sockets.ts";

/** A value of Option.MtuDiscover: DF set, and the kernel's idea of the path's MTU not heeded (ip(7)). */
export const MTU_PROBE = 3;

export function openUdpSocket(): number {
  return openSocket(Family.Inet, SocketType.Datagram);
}

/** Binds, and returns the port, which the kernel chose when `port` is 0. Throws SyscallError. */
export function bindUdp(fd: number, address: Ipv4, port: number): number {
  const name = Buffer.alloc(16);
  name.writeUInt16LE(Family.Inet, 0);
  name.writeUInt16BE(port, 2);
  name.writeInt32BE(address, 4);
  libc.checked(`bind ${formatIpv4(address)}:${port}`, libc.bind(fd, name, name.length));
  libc.checked("getsockname", libc.getsockname(fd, name, Buffer.from(Uint32Array.of(name.length).buffer)));
  return name.readUInt16BE(2);
}

/**
 * Opens and binds a socket with a receive buffer of `receiveBytes`, also above the system's limit (net.core.rmem_max), which
 * needs CAP_NET_ADMIN; without that, as much as the limit allows. Returns the descriptor. Throws SyscallError.
 */
export function openBoundUdp(address: Ipv4, port: number, receiveBytes: number): number {
  const fd = openUdpSocket();
  try {
    if (!trySetOption(fd, Option.ReceiveBufferForce, receiveBytes)) setOption(fd, Option.ReceiveBuffer, receiveBytes);
    bindUdp(fd, address, port);
    return fd;
  } catch (error) {
    libc.close(fd);
    throw error;
  }
}

/** UDP_MAX_SEGMENTS is 64, and 128 since Linux 6.9. */
const SEGMENT_LIMITS: readonly number[] = [128, 64];
const PROBE_TIMEOUT_MS = 1000;

/**
 * How many datagrams one send can be cut into here: tried on the loopback device, for kernels differ and versions lie.
 * 1 when it does not work, also when the loopback device is down.
 */
export function probeMaxSegments(memory: PacketMemory): number {
  const loopback = ipv4("127.0.0.1");
  const receiver = openUdpSocket();
  const sender = openUdpSocket();
  const poller = new Poller(memory, [receiver]);
  try {
    const port = tryBind(receiver, loopback);
    if (port === undefined) return 1;
    const message = new DatagramList(memory, 1, 1);
    const payload = memory.alloc(Math.max(...SEGMENT_LIMITS));
    const into = libc.pointerTo(memory, payload);
    for (const segments of SEGMENT_LIMITS) {
      message.clear();
      message.slice(payload, segments);
      message.finishTo(loopback, port, 1, 0);
      if (message.send(sender, 0, 1) === 1 && countDatagrams(receiver, into, poller, segments)) {
        return segments;
      }
    }
    return 1;
  } finally {
    poller.close();
    libc.close(sender);
    libc.close(receiver);
  }
}

function tryBind(fd: number, address: Ipv4): number | undefined {
  try {
    return bindUdp(fd, address, 0);
  } catch (error) {
    if (error instanceof libc.SyscallError && error.errno === libc.Errno.AddressNotAvailable) return undefined;
    throw error;
  }
}

/** Whether `expected` datagrams of one byte arrive. */
function countDatagrams(fd: number, into: bigint, poller: Poller, expected: number): boolean {
  let count = 0;
  while (count < expected) {
    if (libc.read(fd, into, expected) === 1) count++;
    else if (poller.wait(PROBE_TIMEOUT_MS) === 0) return false;
  }
  return true;
}
