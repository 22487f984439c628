// The portable underlay, over node:dgram: no offloads, no TOS either way, a copy per datagram. It runs on its thread's event loop,
// which its user must not block; `onReadable` is called when a datagram waits.
import { createSocket, type Socket } from "node:dgram";
import { once } from "node:events";
import { PlatformError } from "../lib/errors.ts";
import { formatIpv4, type Ipv4, ipv4 } from "../lib/ip.ts";
import { type Random, systemRandom } from "../lib/random.ts";
import type { PacketMemory } from "../packet/memory.ts";
import type { UnderlayBatch, UnderlayQueue } from "./batch.ts";
import { SOURCE_PORTS, type Underlay, type UnderlayOffloads } from "./ports.ts";

/** RFC 7348 section 5: the dynamic ports of RFC 6335. */
const FIRST_SOURCE_PORT = 49152;
const LAST_SOURCE_PORT = 65535;
const PORT_ATTEMPTS = 64;
const RECEIVE_LIMIT_BYTES = 8 << 20;
const SEND_LIMIT_BYTES = 1 << 20;
/** Bytes that a waiting datagram costs beside its payload. */
const DATAGRAM_COST_BYTES = 256;

interface DgramUnderlayOptions {
  address: Ipv4;
  /** Where we receive; 0: the system chooses. */
  port: number;
  random?: Random;
}

interface Arrived {
  readonly payload: Uint8Array;
  readonly source: Ipv4;
}

/** Rejects with PlatformError when the port is taken or the address is not ours. */
export async function openDgramUnderlay(memory: PacketMemory, options: DgramUnderlayOptions): Promise<DgramUnderlay> {
  const { address, port, random = systemRandom } = options;
  const sockets: Socket[] = [];
  try {
    sockets.push(await bind(address, port));
    for (let i = 0; i < SOURCE_PORTS; i++) sockets.push(await bindSource(address, random));
    return new DgramUnderlay(memory, sockets[0]!, sockets.slice(1));
  } catch (error) {
    for (const socket of sockets) socket.close();
    throw explain(error, address, port);
  }
}

async function bind(address: Ipv4, port: number): Promise<Socket> {
  const socket = createSocket("udp4");
  try {
    socket.bind({ address: formatIpv4(address), port, exclusive: true });
    await once(socket, "listening");
    return socket;
  } catch (error) {
    socket.close();
    throw error;
  }
}

async function bindSource(address: Ipv4, random: Random): Promise<Socket> {
  for (let attempt = 1; ; attempt++) {
    const port = FIRST_SOURCE_PORT + Math.floor(random() * (LAST_SOURCE_PORT - FIRST_SOURCE_PORT + 1));
    try {
      return await bind(address, port);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EADDRINUSE" || attempt === PORT_ATTEMPTS) throw error;
    }
  }
}

function explain(error: unknown, address: Ipv4, port: number): unknown {
  const { code } = error as NodeJS.ErrnoException;
  if (code === "EADDRINUSE") {
    const mend = `ss -lunp 'sport = :${port}'`;
    return new PlatformError(`UDP port ${port} of ${formatIpv4(address)} is taken`, mend, { cause: error });
  }
  if (code === "EADDRNOTAVAIL") {
    const message = `${formatIpv4(address)} is not an address of this node`;
    return new PlatformError(message, "ip -4 address", { cause: error });
  }
  return error;
}

class DgramUnderlay implements Underlay {
  readonly fd = -1;
  /** Where we receive. */
  readonly port: number;
  /** Where we send from. */
  readonly sourcePorts: readonly number[];
  readonly offloads: UnderlayOffloads = { maxSegments: 1 };
  /** Called when there is something to receive. */
  onReadable: (() => void) | undefined;
  /** Datagrams handed to the system. */
  sent = 0;
  /** Datagrams that the system refused later: Node says so after send() has returned. */
  failedLater = 0;
  /** Datagrams turned away, because too many wait to be sent. */
  sendDrops = 0;
  /** Messages that would have to be cut. */
  malformed = 0;
  /** Datagrams turned away, because too many wait to be received. */
  receiveDrops = 0;
  readonly #memory: PacketMemory;
  readonly #receiver: Socket;
  readonly #senders: readonly Socket[];
  // BOUNDED: RECEIVE_LIMIT_BYTES, with DATAGRAM_COST_BYTES each.
  #arrived: Arrived[] = [];
  #arrivedBytes = 0;
  #waitingBytes = 0;

  constructor(memory: PacketMemory, receiver: Socket, senders: readonly Socket[]) {
    this.port = receiver.address().port;
    this.sourcePorts = senders.map((sender) => sender.address().port);
    this.#memory = memory;
    this.#receiver = receiver;
    this.#senders = senders;
    receiver.on("message", (payload, { address }) => this.#accept({ payload, source: ipv4(address) }));
    for (const socket of [receiver, ...senders]) {
      socket.on("error", () => {
        this.failedLater++;
      });
    }
  }

  receive(batch: UnderlayBatch): number {
    const arrived = this.#arrived.splice(0, batch.capacity);
    arrived.forEach(({ payload, source }, i) => {
      this.#arrivedBytes -= payload.length + DATAGRAM_COST_BYTES;
      this.#memory.u8.set(payload, batch.offset[i]!);
      batch.length[i] = payload.length;
      batch.source[i] = source;
      batch.segmentBytes[i] = payload.length;
      batch.tos[i] = 0;
    });
    batch.count = arrived.length;
    return arrived.length;
  }

  send(queue: UnderlayQueue): number {
    let refused = 0;
    for (let message = 0; message < queue.messages; message++) {
      if (!this.#sendMessage(queue, message)) refused += queue.packetsOf(message);
    }
    queue.clear();
    return refused;
  }

  close(): void {
    this.#receiver.close();
    for (const socket of this.#senders) socket.close();
  }

  #accept(datagram: Arrived): void {
    const cost = datagram.payload.length + DATAGRAM_COST_BYTES;
    if (this.#arrivedBytes + cost > RECEIVE_LIMIT_BYTES) {
      this.receiveDrops++;
      return;
    }
    this.#arrivedBytes += cost;
    this.#arrived.push(datagram);
    this.onReadable?.();
  }

  #sendMessage(queue: UnderlayQueue, message: number): boolean {
    const first = queue.firstSlice(message);
    const end = queue.end[message]!;
    const bytes = queue.bytesOf(message);
    const segmentBytes = queue.segmentBytes[message]!;
    if (segmentBytes !== 0 && bytes > segmentBytes) {
      this.malformed++;
      return false;
    }
    const cost = bytes + DATAGRAM_COST_BYTES;
    if (this.#waitingBytes + cost > SEND_LIMIT_BYTES) {
      this.sendDrops++;
      return false;
    }
    const payload = Buffer.allocUnsafe(bytes); // Node sends later, when the packet memory is in use again
    for (let i = first, at = 0; i < end; at += queue.sliceLength[i++]!) {
      payload.set(this.#memory.u8.subarray(queue.sliceOffset[i]!, queue.sliceOffset[i]! + queue.sliceLength[i]!), at);
    }
    this.#waitingBytes += cost;
    const socket = this.#senders[queue.sourcePort[message]! % SOURCE_PORTS]!;
    socket.send(payload, queue.port[message]!, formatIpv4(queue.address[message]!), (error) => {
      this.#waitingBytes -= cost;
      if (error !== null) this.failedLater++;
      else this.sent++;
    });
    return true;
  }
}
