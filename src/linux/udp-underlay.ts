// The underlay over Linux's UDP: recvmmsg(2) and sendmmsg(2) in batches, UDP_GRO and UDP_SEGMENT, one socket that
// receives and SOURCE_PORTS that send, so that a receiver can spread flows by source port (RFC 7348 section 5).
// Datagrams of one length and way go to the kernel as one: its stack takes much longer for a message than for its bytes.
import type { UnderlayBatch, UnderlayQueue } from "../datapath/batch.ts";
import type { SOURCE_PORTS, Underlay, UnderlayOffloads } from "../datapath/ports.ts";
import { PlatformError } from "../lib/errors.ts";
import { formatIpv4, type Ipv4 } from "../lib/ip.ts";
import { type Log, silentLog } from "../lib/log.ts";
import { type Random, systemRandom } from "../lib/random.ts";
import type { PacketMemory } from "../packet/memory.ts";
import { DatagramList } from "./datagram-list.ts";
import * as libc from "./libc.ts";
import { ReceiveList } from "./receive-list.ts";
import { Option, setOption, trySetOption } from "./sockets.ts";
import { type Steering, steer } from "./steering.ts";
import * as udp from "./udp-socket.ts";

const SOURCES: typeof SOURCE_PORTS = 4;
/** RFC 7348 section 5: the dynamic ports of RFC 6335. */
const FIRST_SOURCE_PORT = 49152;
const SOURCE_PORT_RANGE = 16_384;
const PORT_ATTEMPTS = 64;

const BUFFER_BYTES = 8 << 20;
const MAX_MESSAGES = 256;
const MAX_SLICES = 4096;
/** The most that UDP takes in one message, over IPv4. */
const MAX_MESSAGE_BYTES = 65_507;

interface UdpUnderlayOptions {
  /** Our VTEP address. */
  address: Ipv4;
  /** Where we receive; 0: the kernel chooses. */
  port: number;
  /** How many sockets of this address and port there will be, one a worker; this one is steered for them if it is the first. */
  workers?: number;
  /** What datagrams are steered by; left out: by what VXLAN says. */
  steering?: Steering;
  log?: Log;
  random?: Random;
}

/** Throws PlatformError when the port is taken or the address is not ours. */
export function openUdpUnderlay(memory: PacketMemory, options: UdpUnderlayOptions): LinuxUnderlay {
  const { address, port, workers = 1, steering = "vxlan", log = silentLog, random = systemRandom } = options;
  const fds: number[] = [];
  try {
    const receiver = udp.openUdpSocket();
    fds.push(receiver);
    const receivePort = openReceiver(receiver, address, port, log);
    if (workers > 1 && !steer(memory, receiver, workers, steering))
      log.warn("datagrams cannot be steered to workers (SO_ATTACH_REUSEPORT_CBPF): peers may seem silent");
    const sourcePorts: number[] = [];
    for (let i = 0; i < SOURCES; i++) {
      const sender = udp.openUdpSocket();
      fds.push(sender);
      sourcePorts.push(openSender(sender, i, address, random, log));
    }
    const maxSegments = udp.probeMaxSegments(memory);
    if (maxSegments === 1) {
      log.warn("UDP_SEGMENT does not work here, so large sends are slow; is the loopback device up (ip link show lo)?");
    }
    return new LinuxUnderlay(memory, receiver, fds.slice(1), receivePort, sourcePorts, maxSegments);
  } catch (error) {
    for (const fd of fds) libc.close(fd);
    throw error;
  }
}

function openReceiver(fd: number, address: Ipv4, port: number, log: Log): number {
  const share = (): void => setOption(fd, Option.ReusePort, 1); // each worker has a socket of its own
  if (port !== 0) share();
  setOption(fd, Option.ReceiveTos, 1);
  setOption(fd, Option.ReceiveOverflow, 1);
  if (!trySetOption(fd, Option.UdpGro, 1)) log.warn("no UDP_GRO here: large receives are slow");
  setBuffer(fd, Option.ReceiveBufferForce, Option.ReceiveBuffer, log);
  const bound = bindOrExplain(fd, address, port);
  if (port === 0) share(); // only now: the kernel would choose a port that another such socket may have
  return bound;
}

/** Port numbers differ in their last digits, so that receivers who count modulo their workers spread them evenly. */
function openSender(fd: number, index: number, address: Ipv4, random: Random, log: Log): number {
  setOption(fd, Option.MtuDiscover, udp.MTU_PROBE);
  setBuffer(fd, Option.SendBufferForce, Option.SendBuffer, log);
  setOption(fd, Option.ReceiveBuffer, 0); // nothing is read from it: the kernel's minimum
  for (let attempt = 1; ; attempt++) {
    const port = FIRST_SOURCE_PORT + index + SOURCES * Math.floor(random() * (SOURCE_PORT_RANGE / SOURCES));
    try {
      return udp.bindUdp(fd, address, port);
    } catch (error) {
      if (!isErrno(error, libc.Errno.AddressInUse) || attempt === PORT_ATTEMPTS) throw explain(error, address, port);
    }
  }
}

function setBuffer(fd: number, force: Option, ordinary: Option, log: Log): void {
  if (trySetOption(fd, force, BUFFER_BYTES)) return;
  log.debug("socket buffers are limited by net.core.rmem_max and wmem_max: CAP_NET_ADMIN is missing");
  setOption(fd, ordinary, BUFFER_BYTES);
}

function bindOrExplain(fd: number, address: Ipv4, port: number): number {
  try {
    return udp.bindUdp(fd, address, port);
  } catch (error) {
    throw explain(error, address, port);
  }
}

function explain(error: unknown, address: Ipv4, port: number): unknown {
  if (isErrno(error, libc.Errno.AddressInUse)) {
    const mend = `ss -lunp 'sport = :${port}'; a process-less line is a kernel device: ip -d link show type vxlan`;
    return new PlatformError(`UDP port ${port} of ${formatIpv4(address)} is taken`, mend, { cause: error });
  }
  if (isErrno(error, libc.Errno.AddressNotAvailable)) {
    return new PlatformError(`${formatIpv4(address)} is not an address of this node`, "ip -4 address", {
      cause: error,
    });
  }
  return error;
}

function isErrno(error: unknown, errno: number): boolean {
  return error instanceof libc.SyscallError && error.errno === errno;
}

class LinuxUnderlay implements Underlay {
  readonly fd: number;
  /** The port on which datagrams arrive. */
  readonly port: number;
  readonly sourcePorts: readonly number[];
  readonly offloads: UnderlayOffloads;
  /** The queue's messages that the kernel took. */
  sent = 0;
  /** Datagrams larger than the link's MTU (EMSGSIZE). */
  oversize = 0;
  /** Messages with more slices or segments than the kernel takes. */
  malformed = 0;
  /** Datagrams that failed, by error number, EMSGSIZE among them. */
  readonly sendErrors = new Uint32Array(libc.ERRNO_LIMIT);
  readonly #senders: Int32Array;
  readonly #outgoing: DatagramList;
  readonly #incoming: ReceiveList;
  /** Where each source port's messages of the chunk begin in #order, which has the messages by source port. */
  readonly #bucketStart = new Int32Array(SOURCES + 1);
  readonly #order = new Int32Array(MAX_MESSAGES);
  /** How many of the queue's messages each outgoing message joins; #datagrams has how many datagrams it is. */
  readonly #joined = new Int32Array(MAX_MESSAGES);
  readonly #datagrams = new Int32Array(MAX_MESSAGES);
  /** Always 0: errors of a socket come at once. */
  readonly failedLater = 0;

  constructor(
    memory: PacketMemory,
    receiver: number,
    senders: readonly number[],
    port: number,
    sourcePorts: readonly number[],
    maxSegments: number,
  ) {
    this.fd = receiver;
    this.port = port;
    this.sourcePorts = sourcePorts;
    this.offloads = { maxSegments };
    this.#senders = Int32Array.from(senders);
    this.#outgoing = new DatagramList(memory, MAX_MESSAGES, MAX_SLICES);
    this.#incoming = new ReceiveList(memory);
  }

  /** Datagrams that the kernel dropped because we did not read in time. */
  get receiveDrops(): number {
    return this.#incoming.drops;
  }

  /** Datagrams larger than a buffer: never, unless UDP_GRO breaks its promise. */
  get truncated(): number {
    return this.#incoming.truncated;
  }

  /** As Underlay.receive(). Hot path: must not allocate. */
  receive(batch: UnderlayBatch): number {
    return this.#incoming.receive(this.fd, batch);
  }

  /** As Underlay.send(). A message that fails is counted, and the rest go on. Hot path: must not allocate. */
  send(queue: UnderlayQueue): number {
    let refused = 0;
    for (let first = 0; first < queue.messages; ) {
      const end = this.#chunkEnd(queue, first);
      refused += this.#sendChunk(queue, first, end);
      first = end;
    }
    queue.clear();
    return refused;
  }

  close(): void {
    libc.close(this.fd);
    for (const fd of this.#senders) libc.close(fd);
  }

  /** The end of the messages from `first` that the message list has room for; at least one. */
  #chunkEnd(queue: UnderlayQueue, first: number): number {
    const firstSlice = queue.firstSlice(first);
    let end = first + 1;
    while (end < queue.messages && end - first < MAX_MESSAGES && queue.end[end]! - firstSlice <= MAX_SLICES) end++;
    return end;
  }

  #sendChunk(queue: UnderlayQueue, first: number, end: number): number {
    this.#sortBySource(queue, first, end);
    this.#outgoing.clear();
    let refused = 0;
    for (let source = 0; source < SOURCES; source++) {
      const firstMessage = this.#outgoing.messages;
      const bucketEnd = this.#bucketStart[source + 1]!;
      for (let i = this.#bucketStart[source]!; i < bucketEnd; ) {
        const runEnd = this.#runEnd(queue, i, bucketEnd);
        if (!this.#addMessage(queue, i, runEnd)) refused += queue.packetsOf(this.#order[i]!);
        i = runEnd;
      }
      refused += this.#sendMessages(this.#senders[source]!, firstMessage, this.#outgoing.messages);
    }
    return refused;
  }

  /** A counting sort: messages of one source port keep their order. Sources beyond the last wrap around. */
  #sortBySource(queue: UnderlayQueue, first: number, end: number): void {
    const start = this.#bucketStart;
    start.fill(0);
    for (let i = first; i < end; i++) start[(queue.sourcePort[i]! % SOURCES) + 1]!++;
    for (let source = 0; source < SOURCES; source++) start[source + 1]! += start[source]!;
    for (let i = first; i < end; i++) this.#order[start[queue.sourcePort[i]! % SOURCES]!++] = i;
    for (let source = SOURCES; source > 0; source--) start[source] = start[source - 1]!;
    start[0] = 0;
  }

  /**
   * The end, in the order, of the messages from `from` that go to the kernel as one: datagrams of one way and one length;
   * the last may be shorter.
   */
  #runEnd(queue: UnderlayQueue, from: number, end: number): number {
    const first = this.#order[from]!;
    const bytes = queue.bytesOf(first);
    if (queue.segmentBytes[first] !== 0 || bytes === 0) return from + 1;
    const most = Math.min(this.offloads.maxSegments, Math.floor(MAX_MESSAGE_BYTES / bytes));
    const limit = Math.min(end, from + most);
    let slices = slicesOf(queue, first);
    let next = from + 1;
    for (let isLast = false; next < limit && !isLast; next++) {
      const message = this.#order[next]!;
      const more = queue.bytesOf(message);
      slices += slicesOf(queue, message);
      if (!goAlike(queue, first, message) || more > bytes || more === 0 || slices > libc.MAX_IOVECS) break;
      isLast = more < bytes;
    }
    return next;
  }

  /** Makes one message of the queue's messages at `from` to `end` in the order. */
  #addMessage(queue: UnderlayQueue, from: number, end: number): boolean {
    const first = this.#order[from]!;
    const bytes = queue.bytesOf(first);
    const cutAt = queue.segmentBytes[first]!;
    const isCut = cutAt !== 0 && bytes > cutAt;
    if (slicesOf(queue, first) > libc.MAX_IOVECS || (isCut && bytes > cutAt * this.offloads.maxSegments)) {
      this.malformed++;
      return false;
    }
    for (let i = from; i < end; i++) {
      const message = this.#order[i]!;
      for (let slice = queue.firstSlice(message); slice < queue.end[message]!; slice++) {
        this.#outgoing.slice(queue.sliceOffset[slice]!, queue.sliceLength[slice]!);
      }
    }
    const segmentBytes = isCut ? cutAt : end - from > 1 ? bytes : 0;
    this.#joined[this.#outgoing.messages] = end - from;
    this.#datagrams[this.#outgoing.messages] = end - from > 1 ? end - from : queue.packetsOf(first);
    this.#outgoing.finishTo(queue.address[first]!, queue.port[first]!, segmentBytes, queue.tos[first]!);
    return true;
  }

  /** Returns how many datagrams failed. */
  #sendMessages(fd: number, first: number, end: number): number {
    let failed = 0;
    for (let next = first; next < end; ) {
      const sent = this.#outgoing.send(fd, next, end);
      if (sent > 0) {
        for (let i = 0; i < sent; i++) this.sent += this.#joined[next++]!;
        continue;
      }
      const errno = libc.errno();
      if (errno === libc.Errno.Intr) continue;
      const lost = this.#datagrams[next++]!; // sendmmsg stops at the first that fails: skip it
      this.sendErrors[errno]! += lost;
      if (errno === libc.Errno.MessageTooLong) this.oversize += lost;
      failed += lost;
    }
    return failed;
  }
}

function slicesOf(queue: UnderlayQueue, message: number): number {
  return queue.end[message]! - queue.firstSlice(message);
}

/** Whether two datagrams of one source port differ in nothing but their length for the kernel. */
function goAlike(queue: UnderlayQueue, one: number, other: number): boolean {
  return (
    queue.segmentBytes[other] === 0 &&
    queue.address[other] === queue.address[one] &&
    queue.port[other] === queue.port[one] &&
    queue.tos[other] === queue.tos[one]
  );
}
