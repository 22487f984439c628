// By which link packets to an address go, asked of the kernel's routing without a process: rtnetlink(7), RTM_GETROUTE.
import type { Ipv4 } from "../lib/ip.ts";
import type { PacketMemory } from "../packet/memory.ts";
import * as libc from "./libc.ts";
import { Family, openSocket, SocketType } from "./sockets.ts";

// struct nlmsghdr: length u32, type u16, flags u16, sequence u32, port u32; then struct rtmsg, 12 bytes, and attributes.
const HEADER_BYTES = 16;
const MESSAGE_BYTES = 12;
const TYPE_AT = 4;
const FLAGS_AT = 6;
const SEQUENCE_AT = 8;
const RTM_NEWROUTE = 24;
const RTM_GETROUTE = 26;
const NLM_F_REQUEST = 1;
const AF_INET = 2;
const ADDRESS_BITS = 32;
// struct rtattr: length u16, type u16, and the value.
const ATTRIBUTE_BYTES = 4;
const ADDRESS_ATTRIBUTE_BYTES = ATTRIBUTE_BYTES + 4;
const RTA_DST = 1;
const RTA_SRC = 2;
const RTA_OIF = 4;
const RTA_GATEWAY = 5;
const RTA_METRICS = 8; // attributes again
const RTA_VIA = 18;
const RTAX_MTU = 2;

/** Without a source. */
const SHORT_BYTES = HEADER_BYTES + MESSAGE_BYTES + ADDRESS_ATTRIBUTE_BYTES;
const REQUEST_BYTES = SHORT_BYTES + ADDRESS_ATTRIBUTE_BYTES;
const ANSWER_BYTES = 1024;
/** Answers to requests before this one that may wait, which a failed read has left. */
const MOST_ANSWERS = 4;

export class RouteQuery {
  readonly #fd: number;
  readonly #view: DataView;
  readonly #request: number;
  readonly #answer: number;
  readonly #iovec: bigint;
  readonly #shortIovec: bigint;
  readonly #answerPointer: bigint;
  #sequence = 0;
  /** Whether the last link that was found leads to a router, not to the address itself. */
  isByRouter = false;
  /** The MTU that the last route itself has; 0: none, and the link's counts. */
  mtu = 0;

  /** Throws SyscallError when there is no netlink socket to be had. */
  constructor(memory: PacketMemory) {
    this.#fd = openSocket(Family.Netlink, SocketType.Datagram);
    this.#view = memory.view;
    this.#request = memory.alloc(REQUEST_BYTES);
    this.#answer = memory.alloc(ANSWER_BYTES);
    const iovecOf = (bytes: number): bigint => {
      const iovec = memory.alloc(libc.IOVEC_BYTES);
      libc.putIovec(memory.i32, iovec, libc.baseOf(memory), this.#request, bytes);
      return libc.pointerTo(memory, iovec);
    };
    this.#iovec = iovecOf(REQUEST_BYTES);
    this.#shortIovec = iovecOf(SHORT_BYTES);
    this.#answerPointer = libc.pointerTo(memory, this.#answer);
    const view = this.#view;
    view.setUint16(this.#request + TYPE_AT, RTM_GETROUTE, true);
    view.setUint16(this.#request + FLAGS_AT, NLM_F_REQUEST, true);
    view.setUint8(this.#request + HEADER_BYTES, AF_INET);
    view.setUint8(this.#request + HEADER_BYTES + 1, ADDRESS_BITS);
    for (const [at, type] of [
      [HEADER_BYTES + MESSAGE_BYTES, RTA_DST],
      [SHORT_BYTES, RTA_SRC],
    ] as const) {
      view.setUint16(this.#request + at, ADDRESS_ATTRIBUTE_BYTES, true);
      view.setUint16(this.#request + at + 2, type, true);
    }
  }

  /** The index of the link; 0: there is no route. `source`, of this node, is what packets come from; 0: from any. The kernel answers at once. */
  linkTo(address: Ipv4, source: Ipv4 = 0): number {
    const view = this.#view;
    const bytes = source === 0 ? SHORT_BYTES : REQUEST_BYTES;
    this.#sequence = (this.#sequence + 1) | 0;
    view.setUint32(this.#request, bytes, true);
    view.setUint8(this.#request + HEADER_BYTES + 2, source === 0 ? 0 : ADDRESS_BITS);
    view.setInt32(this.#request + SEQUENCE_AT, this.#sequence, true);
    view.setInt32(this.#request + SHORT_BYTES - 4, address);
    view.setInt32(this.#request + REQUEST_BYTES - 4, source);
    if (libc.writev(this.#fd, source === 0 ? this.#shortIovec : this.#iovec, 1) !== bytes) return 0;
    for (let i = 0; i < MOST_ANSWERS; i++) {
      const read = libc.read(this.#fd, this.#answerPointer, ANSWER_BYTES);
      if (read < HEADER_BYTES + MESSAGE_BYTES) return 0;
      if (view.getInt32(this.#answer + SEQUENCE_AT, true) === this.#sequence) return this.#linkIn(read);
    }
    return 0;
  }

  #linkIn(bytes: number): number {
    const view = this.#view;
    if (view.getUint16(this.#answer + TYPE_AT, true) !== RTM_NEWROUTE) return 0; // an error
    this.isByRouter = false;
    this.mtu = 0;
    let link = 0;
    const end = this.#answer + Math.min(bytes, view.getUint32(this.#answer, true));
    for (let at = this.#answer + HEADER_BYTES + MESSAGE_BYTES; at + 2 * ATTRIBUTE_BYTES <= end; ) {
      const length = view.getUint16(at, true);
      const type = view.getUint16(at + 2, true);
      if (type === RTA_OIF) link = view.getInt32(at + ATTRIBUTE_BYTES, true);
      else if (type === RTA_GATEWAY || type === RTA_VIA) this.isByRouter = true;
      else if (type === RTA_METRICS) this.mtu = this.#mtuIn(at + ATTRIBUTE_BYTES, Math.min(end, at + length));
      if (length < ATTRIBUTE_BYTES) break;
      at += (length + 3) & ~3;
    }
    return link;
  }

  #mtuIn(begin: number, end: number): number {
    const view = this.#view;
    for (let at = begin; at + 2 * ATTRIBUTE_BYTES <= end; ) {
      const length = view.getUint16(at, true);
      if (view.getUint16(at + 2, true) === RTAX_MTU) return view.getUint32(at + ATTRIBUTE_BYTES, true);
      if (length < ATTRIBUTE_BYTES) break;
      at += (length + 3) & ~3;
    }
    return 0;
  }

  close(): void {
    libc.close(this.#fd);
  }
}
