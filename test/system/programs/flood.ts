// A greedy container for tests: sends as many packets as it can, from its own address, until it is ended, and prints how many
// each second. Arguments: syn|udp|fragments|dns SOURCE TARGET.
import * as libc from "../../../src/linux/libc.ts";
import { PacketMemory } from "../../../src/packet/memory.ts";
import { type Fields, ipPacket, SYN } from "../../fakes/ip-packets.ts";

const [kind = "", source = "", target = ""] = process.argv.slice(2);
const AF_INET = 2;
const SOCK_RAW = 3;
const IPPROTO_RAW = 255;
const MMSGHDR_BYTES = 64;
const SOCKADDR_BYTES = 16;
const PACKETS = 65_536;
const BURST = 64;
const QUESTION = Buffer.from("000101000001000000000000046e6f7065076578616d706c650000010001", "hex");

/** The packet with this number: no two are of one flow, or of one datagram. */
function packetOf(number: number): Uint8Array {
  const own: Fields = { source, destination: target, sourcePort: 1024 + (number % 60_000), id: number & 0xffff };
  if (kind === "syn") return ipPacket({ ...own, flags: SYN, destinationPort: 1 + (number % 997) });
  if (kind === "dns") return ipPacket({ ...own, protocol: "udp", destinationPort: 53, payload: QUESTION });
  const datagram: Fields = {
    ...own,
    protocol: "udp",
    destinationPort: 1 + (number % 997),
    payload: new Uint8Array(16),
  };
  return ipPacket(kind === "udp" ? datagram : { ...datagram, fragment: 0x2000 }); // more fragments, which never come
}

const memory = new PacketMemory(32 << 20);
const base = libc.baseOf(memory);
const first = packetOf(0);
const iovecs = memory.alloc(PACKETS * libc.IOVEC_BYTES);
const headers = memory.alloc(PACKETS * MMSGHDR_BYTES);
const name = memory.alloc(SOCKADDR_BYTES);
memory.u16[name >> 1] = AF_INET;
memory.u8.set(first.subarray(16, 20), name + 4);
const packets = memory.alloc(PACKETS * first.length);
for (let i = 0; i < PACKETS; i++) {
  const at = packets + i * first.length;
  memory.u8.set(packetOf(i), at);
  libc.putIovec(memory.i32, iovecs + i * libc.IOVEC_BYTES, base, at, first.length);
  const header = headers + i * MMSGHDR_BYTES;
  new DataView(memory.u8.buffer).setBigUint64(header, BigInt(libc.pointerTo(memory, name)), true);
  memory.i32[(header + 8) >> 2] = SOCKADDR_BYTES;
  const iovec = libc.pointerTo(memory, iovecs + i * libc.IOVEC_BYTES);
  new DataView(memory.u8.buffer).setBigUint64(header + 16, BigInt(iovec), true);
  memory.i32[(header + 24) >> 2] = 1;
}
const fd = libc.checked("socket", libc.socket(AF_INET, SOCK_RAW, IPPROTO_RAW));
let sent = 0;
let said = performance.now();
for (let at = 0; ; at = (at + BURST) % PACKETS) {
  sent += Math.max(0, libc.sendmmsg(fd, libc.pointerTo(memory, headers + at * MMSGHDR_BYTES), BURST, 0));
  if (performance.now() - said < 1000) continue;
  console.log(`sent ${sent}`);
  said = performance.now();
}
