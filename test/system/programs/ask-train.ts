// A client for tests: sends COUNT datagrams of BYTES to a UDP echo server as one super-packet (UDP_SEGMENT), and exits with 0
// when all of them were answered, with 1 when none comes any more. Arguments: ADDRESS PORT COUNT BYTES.
import { ipv4 } from "../../../src/lib/ip.ts";
import { DatagramList } from "../../../src/linux/datagram-list.ts";
import { close, pointerTo, read } from "../../../src/linux/libc.ts";
import { Poller } from "../../../src/linux/poll.ts";
import { openUdpSocket } from "../../../src/linux/udp-socket.ts";
import { PacketMemory } from "../../../src/packet/memory.ts";
import { DEADLINE_MS } from "../command.ts";

const [address = "", port, count, bytes] = process.argv.slice(2);
const memory = new PacketMemory(1 << 20);
const socket = openUdpSocket();
const poller = new Poller(memory, [socket]);
const message = new DatagramList(memory, 1, 1);
const total = Number(count) * Number(bytes);
const payload = memory.alloc(total);
memory.u8.fill(0x61, payload, payload + total);
message.slice(payload, total);
message.finishTo(ipv4(address), Number(port), Number(bytes), 0);
if (message.send(socket, 0, 1) !== 1) throw new Error("the super-packet was refused");

const into = memory.alloc(65_536);
let answered = 0;
while (answered < Number(count)) {
  const length = read(socket, pointerTo(memory, into), 65_536);
  if (length > Number(bytes)) answered++;
  else if (poller.wait(DEADLINE_MS) === 0) break;
}
poller.close();
close(socket);
console.log(answered);
process.exit(answered === Number(count) ? 0 : 1);
