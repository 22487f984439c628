// Sends more than the receive buffer holds, reads late, and prints how many drops were counted.
import { UnderlayBatch, UnderlayQueue } from "../../src/datapath/batch.ts";
import { ipv4 } from "../../src/lib/ip.ts";
import { openUdpUnderlay } from "../../src/linux/udp-underlay.ts";
import { PacketMemory } from "../../src/packet/memory.ts";

const LOOPBACK = ipv4("127.0.0.1");
const memory = new PacketMemory(4 << 20);
const underlay = openUdpUnderlay(memory, { address: LOOPBACK, port: 0 });
const batch = new UnderlayBatch(memory, 8);
const queue = new UnderlayQueue(64, 64);
const at = memory.alloc(65536);

const send = () => {
  for (let i = 0; i < 64; i++) {
    queue.slice(at, 60_000);
    queue.finish(LOOPBACK, underlay.port, 0, 0, 0);
  }
  underlay.send(queue);
};
for (let i = 0; i < 10; i++) send(); // 38 MB, buffers are 8 MiB: twice that with the kernel's overhead
while (underlay.receive(batch) > 0); // the count goes along with a datagram that came after the drops
send();
while (underlay.receive(batch) > 0);
console.log(underlay.receiveDrops);
underlay.close();
