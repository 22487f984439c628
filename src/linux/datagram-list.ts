// Outgoing UDP datagrams for sendmmsg(2): struct sockaddr_in, and the control messages that say TOS (ip(7)) and segment size (udp(7)).
import type { PacketMemory } from "../packet/memory.ts";
import * as libc from "./libc.ts";
import { MessageList } from "./message-list.ts";
import { ControlMessage, Family, Level } from "./sockets.ts";

// struct sockaddr_in: family u16, port u16, address u32, zero
export const SOCKADDR_BYTES = 16;

// struct cmsghdr: length size_t, level i32, type i32; then the value, all rounded up to 8
export const CMSG_BYTES = 16;
const TOS_CMSG_BYTES = CMSG_BYTES + 8;
const SEGMENT_CMSG_BYTES = CMSG_BYTES + 8;

export class DatagramList extends MessageList {
  readonly #memory: PacketMemory;

  constructor(memory: PacketMemory, maxMessages: number, maxSlices: number) {
    const controlBytes = TOS_CMSG_BYTES + SEGMENT_CMSG_BYTES;
    super(memory, { maxMessages, maxSlices, nameBytes: SOCKADDR_BYTES, controlBytes });
    this.#memory = memory;
    const { i32, u16 } = memory;
    for (let i = 0; i < maxMessages; i++) {
      const control = this.controlOf(i);
      u16[this.nameOf(i) >> 1] = Family.Inet;
      putCmsg(i32, control, CMSG_BYTES + 4, Level.Ip, ControlMessage.Tos);
      putCmsg(i32, control + TOS_CMSG_BYTES, CMSG_BYTES + 2, Level.Udp, ControlMessage.UdpSegment);
    }
  }

  /** Ends the next message, which is cut into datagrams of `segmentBytes`; 0: it is one datagram. Hot path: must not allocate. */
  finishTo(address: number, port: number, segmentBytes: number, tos: number): void {
    const { u8, u16, i32 } = this.#memory;
    const name = this.nameOf(this.messages);
    const control = this.controlOf(this.messages);
    u8[name + 2] = port >>> 8;
    u8[name + 3] = port;
    u8[name + 4] = address >>> 24;
    u8[name + 5] = address >>> 16;
    u8[name + 6] = address >>> 8;
    u8[name + 7] = address;
    i32[(control + CMSG_BYTES) >> 2] = tos;
    u16[(control + TOS_CMSG_BYTES + CMSG_BYTES) >> 1] = segmentBytes;
    this.finish(segmentBytes === 0 ? TOS_CMSG_BYTES : TOS_CMSG_BYTES + SEGMENT_CMSG_BYTES);
  }
}

function putCmsg(i32: Int32Array, at: number, length: number, level: number, type: number): void {
  libc.putSize(i32, at, length);
  i32[(at + 8) >> 2] = level;
  i32[(at + 12) >> 2] = type;
}
