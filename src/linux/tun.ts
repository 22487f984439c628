// A TUN as the data path's Device: a worker's queues, a virtio-net header on each packet, offloads where the kernel has
// them.
// The facts are the kernel's Documentation/networking/tuntap.rst, include/uapi/linux/if_tun.h and virtio_net.h.
import { closeSync, constants, openSync } from "node:fs";
import type { DeviceBatch, DeviceQueue } from "../datapath/batch.ts";
import type { Device, DeviceOffloads } from "../datapath/ports.ts";
import { set16 } from "../lib/bytes.ts";
import { messageOf, PlatformError } from "../lib/errors.ts";
import { createSum, type Sum } from "../packet/checksum.ts";
import { headerLength } from "../packet/ipv4.ts";
import type { PacketMemory } from "../packet/memory.ts";
import * as virtio from "../packet/virtio-net.ts";
import { chooseLanes } from "./lanes.ts";
import * as libc from "./libc.ts";
import type { LinkSender } from "./link-sender.ts";
import { type DeviceLock, lockDevice } from "./lock.ts";
import { IFREQ_VALUE_AT, interfaceRequest } from "./sockets.ts";

const IFF_TUN = 0x0001;
const IFF_NO_PI = 0x1000;
const IFF_VNET_HDR = 0x4000;
const IFF_MULTI_QUEUE = 0x0100;
const TUNSETIFF = 0x400454ca;
const TUNSETPERSIST = 0x400454cb;
const TUNSETOWNER = 0x400454cc;
const TUNSETGROUP = 0x400454ce;
const TUNSETOFFLOAD = 0x400454d0;
const TUNSETVNETHDRSZ = 0x400454d8;
const ROOT = 0;

/** TUN_F_* of TUNSETOFFLOAD. */
export const Offload = { Checksum: 0x01, Tso4: 0x02, TsoEcn: 0x08, Uso4: 0x20, Uso6: 0x40 } as const;

/** What to ask the kernel for, the best first: USO came with Linux 6.2 and wants both its bits. */
const OFFLOAD_STEPS: readonly number[] = [
  Offload.Checksum | Offload.Tso4 | Offload.TsoEcn | Offload.Uso4 | Offload.Uso6,
  Offload.Checksum | Offload.Tso4 | Offload.TsoEcn,
  Offload.Checksum | Offload.Tso4,
  Offload.Checksum,
  0,
];

const MAX_PACKET_BYTES = 65535;
const ALL_LANES = ~0;
const READ_BYTES = virtio.VIRTIO_NET_BYTES + MAX_PACKET_BYTES;

export interface TunOptions {
  /** This process holds the device's lock already: another of its workers opened a queue, or it called lockDevice(). */
  locked?: boolean;
  /** So many queues are opened, which count as lanes; 1 by default. */
  lanes?: number;
  /**
   * chooseLanes() for so many workers, before there are lanes. Where the kernel refuses, one queue is opened and
   * `unsorted` says why.
   */
  chooseFor?: number;
  /** Values for TUNSETOFFLOAD, tried in turn; the last must be one that every kernel takes. */
  offloadSteps?: readonly number[];
  /** What it has a link for goes that way, not through the device. It is closed with the device. */
  links?: LinkSender;
}

/**
 * Opens a queue of the TUN `name`, which is made when it does not exist and outlives the process.
 * Throws PlatformError when it cannot be had or another process serves it.
 */
export function openTun(name: string, memory: PacketMemory, options: TunOptions = {}): LinuxDevice {
  const lock = options.locked ? undefined : lockDevice(name);
  const fds: number[] = [];
  try {
    fds.push(openQueue(name));
    const taken = setOffload(fds[0]!, options.offloadSteps ?? OFFLOAD_STEPS);
    const unsorted = options.chooseFor === undefined ? null : tryChoose(fds[0]!, options.chooseFor);
    const lanes = unsorted === null ? (options.lanes ?? 1) : 1;
    while (fds.length < lanes) fds.push(openQueue(name));
    return new LinuxDevice(name, memory, fds, taken, unsorted, lock, options.links);
  } catch (error) {
    for (const fd of fds) closeSync(fd);
    lock?.release();
    throw error;
  }
}

/** Why the kernel takes no program that chooses lanes; null when it has taken it. */
function tryChoose(fd: number, workers: number): string | null {
  try {
    chooseLanes(fd, workers);
    return null;
  } catch (error) {
    return messageOf(error);
  }
}

function openQueue(name: string): number {
  const fd = openControl();
  try {
    attachQueue(fd, name);
    return fd;
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

function openControl(): number {
  try {
    return openSync("/dev/net/tun", constants.O_RDWR | constants.O_NONBLOCK); // Node adds O_CLOEXEC
  } catch (error) {
    throw new PlatformError(`no TUN: ${messageOf(error)}`, "modprobe tun; ls -l /dev/net/tun", { cause: error });
  }
}

/** Makes `fd` a queue of the device, and makes the device if it is missing. */
function attachQueue(fd: number, name: string): void {
  const request = interfaceRequest(name);
  if (request === undefined) throw new RangeError(`'${name}' is too long for the name of a device`);
  request.writeUInt16LE(IFF_TUN | IFF_NO_PI | IFF_VNET_HDR | IFF_MULTI_QUEUE, IFREQ_VALUE_AT);
  if (libc.ioctl(fd, TUNSETIFF, request) < 0) {
    const cause = libc.syscallError("TUNSETIFF");
    throw new PlatformError(`the TUN ${name} cannot be opened: ${cause.message}`, `ip -d link show ${name}; id -u`, {
      cause,
    });
  }
  const headerBytes = Buffer.from(Int32Array.of(virtio.VIRTIO_NET_BYTES).buffer);
  libc.checked("TUNSETVNETHDRSZ", libc.ioctl(fd, TUNSETVNETHDRSZ, headerBytes));
  // A device without owner and group is open to every user who may open /dev/net/tun, which is 0666 on distributions.
  libc.checked("TUNSETOWNER", libc.ioctlValue(fd, TUNSETOWNER, ROOT));
  libc.checked("TUNSETGROUP", libc.ioctlValue(fd, TUNSETGROUP, ROOT));
  libc.checked("TUNSETPERSIST", libc.ioctlValue(fd, TUNSETPERSIST, 1));
}

function setOffload(fd: number, steps: readonly number[]): number {
  for (const step of steps) {
    if (libc.ioctlValue(fd, TUNSETOFFLOAD, step) === 0) return step;
  }
  throw libc.syscallError("TUNSETOFFLOAD");
}

export class LinuxDevice implements Device {
  readonly name: string;
  readonly fds: readonly number[];
  readonly offloads: DeviceOffloads;
  unread = 0;
  /** The reason why containers share one lane though more were asked for; null: they do not. */
  readonly unsorted: string | null;
  /** Messages that virtioFault() found broken. */
  faults = 0;
  /** Messages that the kernel refused, by error number. */
  readonly writeErrors = new Uint32Array(libc.ERRNO_LIMIT);
  /** Packets with a GSO type that was not asked for. */
  unreadable = 0;
  /** The first queue, to which all is written. */
  readonly #fd: number;
  readonly #memory: PacketMemory;
  readonly #lock: DeviceLock | undefined;
  readonly #links: LinkSender | undefined;
  readonly #sum: Sum;
  readonly #base: libc.Base;
  readonly #iovecs: number;
  readonly #header: number;
  readonly #iovecsPointer: bigint;
  #batch: DeviceBatch | undefined;
  /** The place of the virtio-net header of each of the batch's buffers. */
  #readPointers: readonly bigint[] = [];

  constructor(
    name: string,
    memory: PacketMemory,
    fds: readonly number[],
    offload: number,
    unsorted: string | null,
    lock: DeviceLock | undefined,
    links: LinkSender | undefined,
  ) {
    this.name = name;
    this.fds = fds;
    this.unsorted = unsorted;
    this.#fd = fds[0]!;
    this.offloads = {
      checksum: (offload & Offload.Checksum) !== 0,
      tcp: (offload & Offload.Tso4) !== 0,
      udp: (offload & Offload.Uso4) !== 0,
    };
    this.#memory = memory;
    this.#lock = lock;
    this.#links = links;
    this.#sum = createSum(memory);
    this.#base = libc.baseOf(memory);
    this.#iovecs = memory.alloc(libc.MAX_IOVECS * libc.IOVEC_BYTES);
    this.#iovecsPointer = libc.pointerTo(memory, this.#iovecs);
    this.#header = memory.alloc(virtio.VIRTIO_NET_BYTES);
    libc.putIovec(memory.i32, this.#iovecs, this.#base, this.#header, virtio.VIRTIO_NET_BYTES);
  }

  /** As Device.read(). Throws PlatformError when the device was removed. Hot path: must not allocate. */
  read(batch: DeviceBatch, lanes = ALL_LANES): number {
    if (batch !== this.#batch) this.#aim(batch);
    let left = 0;
    for (let lane = 0; lane < this.fds.length; lane++) left += (lanes >> lane) & 1;
    let count = 0;
    let unread = 0;
    for (let lane = 0; left > 0; lane++) {
      if (((lanes >> lane) & 1) === 0) continue;
      const limit = count + Math.ceil((batch.capacity - count) / left--); // with the room that other lanes left
      count = this.#readLane(batch, count, limit, this.fds[lane]!);
      if (count === limit) unread |= 1 << lane;
    }
    this.unread = unread;
    batch.count = count;
    return count;
  }

  /** Fills the batch from `first` to `limit`, and returns how far it came. */
  #readLane(batch: DeviceBatch, first: number, limit: number, fd: number): number {
    let count = first;
    while (count < limit) {
      const bytes = libc.read(fd, this.#readPointers[count]!, READ_BYTES);
      if (bytes < 0) {
        const errno = libc.errno();
        if (errno === libc.Errno.Again) break;
        if (errno === libc.Errno.Intr) continue;
        throw this.#gone(errno);
      }
      batch.length[count] = bytes - virtio.VIRTIO_NET_BYTES;
      if (this.#decodeHeader(batch, count, batch.offset[count]! - virtio.VIRTIO_NET_BYTES)) count++;
      else this.unreadable++;
    }
    return count;
  }

  /** As Device.write(). A broken message is refused here, as the kernel would take some. Hot path: must not allocate. */
  write(queue: DeviceQueue): number {
    let refused = 0;
    for (let message = 0; message < queue.messages; message++) {
      if (virtio.virtioFault(this.#memory, queue, message) !== virtio.VirtioFault.None) {
        this.faults++;
        refused++; // its header and its segments contradict each other
      } else if (!this.#links?.add(queue, message) && !this.#writeMessage(queue, message))
        refused += queue.packetsOf(message);
    }
    if (this.#links !== undefined) refused += this.#sendOnLinks(this.#links, queue);
    queue.clear();
    return refused;
  }

  /** Writes to the device what its link did not take, such as a packet that is too large. */
  #sendOnLinks(links: LinkSender, queue: DeviceQueue): number {
    const failed = links.send();
    let refused = 0;
    for (let i = 0; i < failed; i++) {
      const message = links.failed[i]!;
      if (!this.#writeMessage(queue, message)) refused += queue.packetsOf(message);
    }
    return refused;
  }

  /** Detaches these queues; the device stays. */
  close(): void {
    for (const fd of this.fds) closeSync(fd);
    this.#links?.close();
    this.#lock?.release();
  }

  #aim(batch: DeviceBatch): void {
    this.#batch = batch;
    this.#readPointers = Array.from(batch.offset, (at) => libc.pointerTo(this.#memory, at - virtio.VIRTIO_NET_BYTES));
  }

  /** Returns false for a kind of packet that was not asked for. */
  #decodeHeader(batch: DeviceBatch, i: number, at: number): boolean {
    const { u8, u16 } = this.#memory;
    const gso = u8[at + virtio.GSO_TYPE_AT]! & ~virtio.GSO_ECN;
    if (gso !== virtio.Gso.None && gso !== virtio.Gso.Tcp4 && gso !== virtio.Gso.Udp4) return false;
    batch.gso[i] = gso;
    batch.gsoBytes[i] = u16[(at + virtio.GSO_SIZE_AT) >> 1]!;
    const flags = u8[at + virtio.FLAGS_AT]!;
    const partial = (flags & virtio.NEEDS_CHECKSUM) !== 0;
    batch.needsChecksum[i] = partial ? 1 : 0;
    batch.hasRightChecksum[i] = (flags & virtio.CHECKSUM_IS_RIGHT) !== 0 ? 1 : 0;
    if (!partial || gso !== virtio.Gso.None) return true;
    const start = u16[(at + virtio.CHECKSUM_START_AT) >> 1]!;
    if (start !== headerLength(u8, batch.offset[i]!)) {
      this.#completeChecksum(batch, i, start, u16[(at + virtio.CHECKSUM_OFFSET_AT) >> 1]!);
    }
    return true;
  }

  /** Completes a checksum further inside a packet, which a container tunnels: the batch cannot express it. */
  #completeChecksum(batch: DeviceBatch, i: number, start: number, offset: number): void {
    const at = batch.offset[i]! + start;
    const sum = this.#sum(at, batch.length[i]! - start, 0);
    set16(this.#memory.u8, at + offset, sum === 0xffff ? 0xffff : ~sum & 0xffff); // 0 would mean that UDP has none
    batch.needsChecksum[i] = 0;
    batch.hasRightChecksum[i] = 1;
  }

  #writeMessage(queue: DeviceQueue, message: number): boolean {
    const first = queue.firstSlice(message);
    const slices = queue.end[message]! - first;
    if (slices >= libc.MAX_IOVECS) {
      this.faults++;
      return false;
    }
    virtio.putHeader(this.#memory, this.#header, queue, message);
    const { i32 } = this.#memory;
    for (let i = 0; i < slices; i++) {
      const at = this.#iovecs + (i + 1) * libc.IOVEC_BYTES;
      libc.putIovec(i32, at, this.#base, queue.sliceOffset[first + i]!, queue.sliceLength[first + i]!);
    }
    if (libc.writev(this.#fd, this.#iovecsPointer, slices + 1) >= 0) return true;
    const errno = libc.errno();
    if (errno === libc.Errno.BadFileDescriptorState) throw this.#gone(errno);
    this.writeErrors[errno]!++;
    return false;
  }

  #gone(errno: number): PlatformError {
    const cause = libc.syscallError("read or write", errno);
    return new PlatformError(`the TUN ${this.name} is gone: ${cause.message}`, `ip link show ${this.name}`, { cause });
  }
}
