// Carries 100,000 datagrams between two underlays and prints how much heap each cost. Run with --expose-gc and a
// young generation so large that it is not collected meanwhile.
import { UnderlayBatch, UnderlayQueue } from "../../src/datapath/batch.ts";
import { ipv4 } from "../../src/lib/ip.ts";
import { Poller } from "../../src/linux/poll.ts";
import { openUdpUnderlay } from "../../src/linux/udp-underlay.ts";
import { PacketMemory } from "../../src/packet/memory.ts";
import { DEADLINE_MS } from "../system/command.ts";

const DATAGRAMS = 100_000;
const BURST = 50;
const LOOPBACK = ipv4("127.0.0.1");
const memory = new PacketMemory(8 << 20);
const alice = openUdpUnderlay(memory, { address: LOOPBACK, port: 0 });
const bob = openUdpUnderlay(memory, { address: LOOPBACK, port: 0 });
const poller = new Poller(memory, [bob.fd]);
const batch = new UnderlayBatch(memory, 64);
const queue = new UnderlayQueue(BURST, BURST);
const at = memory.alloc(100);

function carry(datagrams: number): void {
  for (let received = 0; received < datagrams; ) {
    for (let i = 0; i < BURST; i++) {
      queue.slice(at, 100);
      queue.finish(LOOPBACK, bob.port, i % 16, 0, 0);
    }
    alice.send(queue);
    for (let left = BURST; left > 0; ) {
      const count = bob.receive(batch);
      for (let i = 0; i < count; i++) left -= batch.length[i]! / batch.segmentBytes[i]!;
      if (count === 0 && poller.wait(DEADLINE_MS) === 0) throw new Error(`${left} datagrams did not arrive`);
    }
    received += BURST;
  }
}

if (gc === undefined) throw new Error("run with --expose-gc");
carry(DATAGRAMS); // until everything is compiled
gc();
const before = process.memoryUsage().heapUsed;
carry(DATAGRAMS);
console.log((process.memoryUsage().heapUsed - before) / DATAGRAMS);
alice.close();
bob.close();
