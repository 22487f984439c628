// Waiting for descriptors, and being woken by another thread.
import { once } from "node:events";
import { Worker } from "node:worker_threads";
import test from "ava";
import { UnderlayBatch, UnderlayQueue } from "../../src/datapath/batch.ts";
import { ipv4 } from "../../src/lib/ip.ts";
import { Poller, wakePoller } from "../../src/linux/poll.ts";
import { openUdpUnderlay } from "../../src/linux/udp-underlay.ts";
import { PacketMemory } from "../../src/packet/memory.ts";
import { DEADLINE_MS } from "../system/command.ts";

test("the bits say which descriptors are ready, and one below zero never is", (t) => {
  const memory = new PacketMemory(2 << 20);
  const underlay = openUdpUnderlay(memory, { address: ipv4("127.0.0.1"), port: 0 });
  const poller = new Poller(memory, [-1, underlay.fd]);
  t.is(poller.wait(0), 0);
  const queue = new UnderlayQueue(1, 1);
  queue.slice(memory.alloc(10), 10);
  queue.finish(ipv4("127.0.0.1"), underlay.port, 0, 0, 0);
  underlay.send(queue);
  t.is(poller.wait(DEADLINE_MS), 0b10);
  t.is(poller.wait(0), 0b10);
  t.is(poller.look(), 0b10);
  underlay.receive(new UnderlayBatch(memory, 1));
  t.is(poller.wait(0), 0);
  t.is(poller.look(), 0);
  poller.close();
  underlay.close();
});

test("a wake ends one wait, however often it was called, also before the wait", (t) => {
  const poller = new Poller(new PacketMemory(1 << 16), []);
  wakePoller(poller.eventFd);
  wakePoller(poller.eventFd);
  t.is(poller.wait(DEADLINE_MS), poller.wokenBit);
  t.is(poller.wait(0), 0);
  poller.close();
});

test("a thread that blocks is woken by another", async (t) => {
  const worker = new Worker(new URL("poll-worker.js", import.meta.url));
  const [eventFd] = (await once(worker, "message")) as [number];
  wakePoller(eventFd);
  const [woken] = (await once(worker, "message")) as [boolean];
  t.true(woken);
});

test("an asynchronous wait lets the event loop go on, and is woken from it", async (t) => {
  const poller = new Poller(new PacketMemory(1 << 16), []);
  t.is(await poller.waitAsync(0), 0);
  setImmediate(() => wakePoller(poller.eventFd));
  t.is(await poller.waitAsync(DEADLINE_MS), poller.wokenBit);
  poller.close();
});

test("more descriptors than bits are refused", (t) => {
  t.throws(() => new Poller(new PacketMemory(1 << 16), Array<number>(31).fill(-1)), { instanceOf: RangeError });
});
