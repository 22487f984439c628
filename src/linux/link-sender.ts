// Packets straight onto the links of this node's endpoints: one packet(7) socket with virtio-net headers, so that the
// last hop passes neither routing nor netfilter, and a batch is one sendmmsg(2).
// The sources are packet(7), the kernel's include/uapi/linux/if_packet.h and netdevice(7).
import type { DeviceQueue } from "../datapath/batch.ts";
import { get32, set16 } from "../lib/bytes.ts";
import type { Ipv4 } from "../lib/ip.ts";
import { DESTINATION_AT } from "../packet/ipv4.ts";
import type { PacketMemory } from "../packet/memory.ts";
import * as virtio from "../packet/virtio-net.ts";
import { ifindexOf } from "./interfaces.ts";
import * as libc from "./libc.ts";
import { MessageList } from "./message-list.ts";
import { Family, Option, openSocket, SocketType, setOption, trySetOption } from "./sockets.ts";

const ETHERTYPE_IPV4 = 0x0800;
const ETHERNET_BYTES = 14;
const MAC_BYTES = 6;

// struct sockaddr_ll: family u16, protocol u16 of the network's order, index i32, hardware type u16, packet type u8,
// length u8, address 8 bytes
const SOCKADDR_LL_BYTES = 20;
const INDEX_AT = 4;
const LENGTH_AT = 11;

const SEND_BUFFER_BYTES = 8 << 20;
const MAX_MESSAGES = 256;
/** One slice of each message is for its headers. */
const MAX_SLICES = 4096;
const HEADERS_BYTES = virtio.VIRTIO_NET_BYTES + ETHERNET_BYTES;
/** An address without a link is looked up again after this time, and one with a link when a packet for it fails. */
const NO_LINK_SECONDS = 1;
const MAX_LINKS = 4096;

interface LinkNaming {
  /** Whether one of our endpoints may have the address. Hot path: must not allocate. */
  isOurs: (address: Ipv4) => boolean;
  /** The name of an address's link. */
  name: (address: Ipv4) => string;
  /** The MAC behind the link, "02:42:0a:00:00:01". */
  mac: (address: Ipv4) => string;
  /** The MAC that packets come from. */
  source: string;
  /** Seconds on a clock that only goes forward. */
  now: () => number;
}

interface Link {
  /** 0: there is none. */
  index: number;
  until: number;
  mac: Uint8Array;
}

/** Throws SyscallError, EPERM without CAP_NET_RAW. */
export function openLinkSender(memory: PacketMemory, naming: LinkNaming): LinkSender {
  const fd = openSocket(Family.Packet, SocketType.Raw); // without a protocol: it receives nothing
  try {
    setOption(fd, Option.PacketVirtioHeader, 1);
    if (!trySetOption(fd, Option.SendBufferForce, SEND_BUFFER_BYTES))
      setOption(fd, Option.SendBuffer, SEND_BUFFER_BYTES);
    return new LinkSender(memory, fd, naming);
  } catch (error) {
    libc.close(fd);
    throw error;
  }
}

export class LinkSender {
  /** Messages that went out this way. */
  sent = 0;
  readonly #memory: PacketMemory;
  readonly #fd: number;
  readonly #naming: LinkNaming;
  readonly #links = new Map<Ipv4, Link>(); // BOUNDED: by MAX_LINKS
  readonly #list: MessageList;
  /** Where the virtio-net and Ethernet headers of the messages are. */
  readonly #prefixes: number;
  /** The queue's message behind each message here, and its address. */
  readonly #origin = new Int32Array(MAX_MESSAGES);
  readonly #address = new Int32Array(MAX_MESSAGES);
  /** Indexes of the queue's messages that could not go this way; send() says how many there are. */
  readonly failed = new Int32Array(MAX_MESSAGES);

  constructor(memory: PacketMemory, fd: number, naming: LinkNaming) {
    this.#memory = memory;
    this.#fd = fd;
    this.#naming = naming;
    this.#list = new MessageList(memory, {
      maxMessages: MAX_MESSAGES,
      maxSlices: MAX_SLICES,
      nameBytes: SOCKADDR_LL_BYTES,
    });
    this.#prefixes = memory.alloc(HEADERS_BYTES * MAX_MESSAGES);
    for (let i = 0; i < MAX_MESSAGES; i++) this.#prepare(i);
  }

  #prepare(message: number): void {
    const { u8, u16 } = this.#memory;
    const name = this.#list.nameOf(message);
    u16[name >> 1] = Family.Packet;
    set16(u8, name + 2, ETHERTYPE_IPV4);
    u8[name + LENGTH_AT] = MAC_BYTES;
    const ethernet = this.#prefixes + HEADERS_BYTES * message + virtio.VIRTIO_NET_BYTES;
    u8.set(macBytes(this.#naming.source), ethernet + MAC_BYTES);
    set16(u8, ethernet + 2 * MAC_BYTES, ETHERTYPE_IPV4);
  }

  /** Takes the queue's message for its endpoint's link. False: the endpoint has no link here, or there is no room before a send(). */
  add(queue: DeviceQueue, message: number): boolean {
    const first = queue.firstSlice(message);
    const slices = queue.end[message]! - first;
    const list = this.#list;
    if (list.messages === MAX_MESSAGES || list.slices + slices + 1 > MAX_SLICES || slices >= libc.MAX_IOVECS)
      return false;
    const { u8, i32 } = this.#memory;
    const address = get32(u8, queue.sliceOffset[first]! + DESTINATION_AT);
    if (!this.#naming.isOurs(address)) return false;
    const link = this.#linkOf(address);
    if (link.index === 0) return false;
    const at = list.messages;
    this.#origin[at] = message;
    this.#address[at] = address;
    i32[(list.nameOf(at) + INDEX_AT) >> 2] = link.index;
    const prefix = this.#prefixes + HEADERS_BYTES * at;
    virtio.putHeader(this.#memory, prefix, queue, message, ETHERNET_BYTES);
    u8.set(link.mac, prefix + virtio.VIRTIO_NET_BYTES);
    list.slice(prefix, HEADERS_BYTES);
    for (let i = first; i < first + slices; i++) list.slice(queue.sliceOffset[i]!, queue.sliceLength[i]!);
    list.finish(0);
    return true;
  }

  /** Sends what was taken; returns how many messages are now in `failed`. Hot path: must not allocate. */
  send(): number {
    const list = this.#list;
    let failed = 0;
    for (let next = 0; next < list.messages; ) {
      const sent = list.send(this.#fd, next, list.messages);
      if (sent > 0) {
        next += sent;
        this.sent += sent;
      } else if (libc.errno() !== libc.Errno.Intr) {
        // sendmmsg stops at the first that fails. Its link may be another by now.
        this.#links.delete(this.#address[next]!);
        this.failed[failed++] = this.#origin[next++]!;
      }
    }
    list.clear();
    return failed;
  }

  close(): void {
    libc.close(this.#fd);
  }

  #linkOf(address: Ipv4): Link {
    const known = this.#links.get(address);
    if (known !== undefined && (known.index !== 0 || known.until > this.#naming.now())) return known;
    if (this.#links.size === MAX_LINKS) this.#links.clear();
    const { name, mac, now } = this.#naming;
    const link = {
      index: ifindexOf(name(address)) ?? 0,
      until: now() + NO_LINK_SECONDS,
      mac: macBytes(mac(address)),
    };
    this.#links.set(address, link);
    return link;
  }
}

function macBytes(mac: string): Uint8Array {
  return Uint8Array.from(mac.split(":"), (byte) => Number.parseInt(byte, 16));
}
