// A worker that says which eventfd wakes it, blocks, and says whether it was woken.
import { parentPort } from "node:worker_threads";
import { Poller } from "../../src/linux/poll.ts";
import { PacketMemory } from "../../src/packet/memory.ts";

const poller = new Poller(new PacketMemory(1 << 16), []);
parentPort!.postMessage(poller.eventFd);
parentPort!.postMessage(poller.wait(10_000) === poller.wokenBit);
poller.close();
