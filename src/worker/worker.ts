// The worker thread of a data path: it opens device and underlay, and runs the loop until a command stops it. It blocks in
// epoll_wait(2), so it fetches its commands.
import { cpus } from "node:os";
import { type MessagePort, parentPort, receiveMessageOnPort, workerData } from "node:worker_threads";
import { openDgramUnderlay } from "../datapath/dgram-underlay.ts";
import { ENGINE_MEMORY_BYTES, Engine, SIDES } from "../datapath/engine.ts";
import { FlowTable } from "../datapath/flow-table.ts";
import { runLoop, runYieldingLoop } from "../datapath/loop.ts";
import type { Device, SealedSide, Underlay } from "../datapath/ports.ts";
import { ExpressInstaller } from "../express/installer.ts";
import { Ways } from "../express/ways.ts";
import { machineMonotonic } from "../lib/clock.ts";
import { messageOf, PlatformError } from "../lib/errors.ts";
import { contains, formatIpv4, type Ipv4, ipv4, macOf } from "../lib/ip.ts";
import { systemRandom } from "../lib/random.ts";
import { HOST_MAC, NEXT_HOP, vethName } from "../links/desired.ts";
import { AeadEngine } from "../linux/aead.ts";
import { bootNumber } from "../linux/boot.ts";
import { SyscallError } from "../linux/libc.ts";
import { type LinkSender, openLinkSender } from "../linux/link-sender.ts";
import { Poller, wakePoller } from "../linux/poll.ts";
import { RunnableThreads } from "../linux/runnable.ts";
import { mappedBuffer } from "../linux/shared-file.ts";
import { nameThread, raiseThread, shortenSlices } from "../linux/thread-priority.ts";
import { openTun } from "../linux/tun.ts";
import { openUdpUnderlay } from "../linux/udp-underlay.ts";
import { PacketMemory } from "../packet/memory.ts";
import type { WorkerCommand, WorkerMessage, WorkerOptions, WorkerRequest, WorkerResults } from "./protocol.ts";

/** The shortest slice that the kernel gives: no step of the loop takes longer unless packets wait. */
const SLICE_MICROS = 100;

/** With more threads than these for each processor, most of them wait. A few wait at times where a packet's way wakes several. */
const RUNNABLE_A_PROCESSOR = 3;

const port = parentPort!;
const say = (message: WorkerMessage): void => port.postMessage(message);

serve(workerData as WorkerOptions, port).catch((error: unknown) => {
  say({ type: "failed", message: messageOf(error), mend: error instanceof PlatformError ? error.mend : null });
});

async function serve(setup: WorkerOptions, port: MessagePort): Promise<void> {
  const memory = new PacketMemory(ENGINE_MEMORY_BYTES);
  const { flowCapacity } = setup;
  const flowMemory = mappedBuffer(setup.flowAddress, FlowTable.bytesFor(flowCapacity));
  const notes: string[] = [];
  try {
    nameThread(`datapath-${setup.index}`);
  } catch (error) {
    notes.push(`its thread has no name of its own (${messageOf(error)})`);
  }
  const links = openLinks(setup, memory, notes);
  const isFirst = setup.index === 0;
  const device = openTun(setup.device, memory, {
    ...{ locked: true, lanes: setup.lanes },
    ...(isFirst && { chooseFor: setup.workers }),
    ...(links && { links }),
  });
  if (device.unsorted !== null) {
    notes.push(
      `a container that floods takes other containers' packets with it, for lack of lanes (${device.unsorted})`,
    );
  }
  if (!device.offloads.tcp) notes.push("the TUN takes no TCP super-packets (TSO): transfers are slow");
  const { underlay, kind } = await openUnderlay(setup, memory, notes);
  const sealed = await openSealed(setup, kind, memory);
  const flows = isFirst
    ? FlowTable.open(flowMemory, flowCapacity, Math.floor(systemRandom() * 2 ** 32), bootNumber())
    : FlowTable.join(flowMemory, flowCapacity);
  const { lane, lack: laneLack } = openLane(setup, { memory, flows, sourcePorts: underlay.sourcePorts });
  if (isFirst) {
    if (lane !== undefined && setup.express?.isAdopted === true) flows.forgetBarred(flows.highWater);
    else flows.clearRides(flows.highWater);
  }
  const engine = new Engine({
    memory,
    device,
    underlay,
    flows,
    lane,
    isFirst,
    now: machineMonotonic,
    random: systemRandom,
    newFlowsPerSecond: setup.newFlowsPerSecond,
    workers: setup.workers,
    sealed,
  });
  engine.onHealth = (report) => say({ type: "health", report });
  engine.onKeysWanted = (vteps) => say({ type: "keysWanted", vteps });
  const poller = new Poller(memory, sideFds(underlay, device, sealed));
  const posted = new Int32Array(setup.posted);
  let taken = 0;
  /** Carries out the commands that wait; false: one has stopped the loop. It is called between any two steps, and cheap when none waits. */
  const commands = (): boolean => {
    if (Atomics.load(posted, 0) === taken) return true;
    for (;;) {
      const received = receiveMessageOnPort(port) as { message: WorkerRequest } | undefined;
      if (received === undefined) return true;
      taken++;
      const { id, command } = received.message;
      say(answer(engine, id, command));
      if (command.type === "stop") return false;
    }
  };
  const lanes = device.fds.length;
  const threads = openRunnable(memory, notes);
  say({ type: "ready", eventFd: poller.eventFd, underlay: kind, lanes, notes, unraised: raise(setup), laneLack });
  const look = (): number => poller.look();
  const loop = { engine, commands, look, now: machineMonotonic };
  if (kind === "batched") {
    const awake = {
      runnable: () => threads?.count() ?? 0,
      mostRunnable: RUNNABLE_A_PROCESSOR * cpus().length,
      spinMs: setup.spinMicros / 1000,
    };
    runLoop({ ...loop, ...awake, wait: (timeoutMs) => poller.wait(timeoutMs) });
  } else {
    const wake = (): void => wakePoller(poller.eventFd);
    underlay.onReadable = wake;
    if (sealed !== undefined) sealed.underlay.onReadable = wake;
    await runYieldingLoop({ ...loop, wait: (timeoutMs) => poller.waitAsync(timeoutMs) });
  }
  engine.close();
  lane?.close();
  poller.close();
  threads?.close();
  port.close();
}

function openRunnable(memory: PacketMemory, notes: string[]): RunnableThreads | undefined {
  try {
    return new RunnableThreads(memory);
  } catch (error) {
    notes.push(`it looks for packets also while other programs wait for processors (${messageOf(error)})`);
    return undefined;
  }
}

/** Raises this thread's priority. Returns why it has not the nice value that is asked for; null when it has. Short slices need no privilege. */
function raise({ priority }: WorkerOptions): string | null {
  if (priority === 0) return null;
  try {
    shortenSlices(SLICE_MICROS);
    raiseThread(-priority);
    return null;
  } catch (error) {
    return messageOf(error);
  }
}

function openLinks({ pool }: WorkerOptions, memory: PacketMemory, notes: string[]): LinkSender | undefined {
  try {
    return openLinkSender(memory, {
      isOurs: (address) => contains(pool, address),
      name: (address) => vethName(formatIpv4(address)),
      mac: macOf,
      source: HOST_MAC,
      now: () => machineMonotonic() / 1000,
    });
  } catch (error) {
    notes.push(`packets cannot be put on containers' links (${messageOf(error)}): the way by the TUN is slower`);
    return undefined;
  }
}

/** `lack` says why this worker is refused what the lane needs. Then no worker may use it: this one would not take back what the others put there. */
function openLane(
  { address, express, pool }: WorkerOptions,
  { memory, flows, sourcePorts }: { memory: PacketMemory; flows: FlowTable; sourcePorts: readonly number[] },
): { lane: ExpressInstaller | undefined; lack: string | null } {
  if (express === undefined) return { lane: undefined, lack: null };
  const { maps, capacity } = express;
  let ways: Ways | undefined;
  try {
    ways = new Ways(memory, (container) => vethName(formatIpv4(container)));
    const lane = new ExpressInstaller({
      ...{ memory, flows, maps, capacity, sourcePorts, ways, pool, vtep: ipv4(address) },
      nextHop: ipv4(NEXT_HOP),
    });
    return { lane, lack: null };
  } catch (error) {
    if (!(error instanceof SyscallError)) throw error;
    ways?.close();
    return { lane: undefined, lack: messageOf(error) };
  }
}

type OpenUnderlay = Underlay & { onReadable?: (() => void) | undefined };
type OpenedSealed = (SealedSide & { underlay: OpenUnderlay }) | undefined;

interface OpenedUnderlay {
  underlay: OpenUnderlay & { readonly sourcePorts: readonly number[] };
  kind: "batched" | "dgram";
}

function underlayOptions({ address, index, workers }: WorkerOptions): { address: Ipv4; workers: number } {
  return { address: ipv4(address), workers: index === 0 ? workers : 1 };
}

async function openUnderlay(setup: WorkerOptions, memory: PacketMemory, notes: string[]): Promise<OpenedUnderlay> {
  const options = { ...underlayOptions(setup), port: setup.port };
  if (setup.underlay !== "dgram") {
    try {
      const underlay = openUdpUnderlay(memory, options);
      if (underlay.offloads.maxSegments === 1) notes.push("UDP_SEGMENT does not work here: transfers are slow");
      return { underlay, kind: "batched" };
    } catch (error) {
      // A port that is taken is taken for both underlays. What is left is a system call that is refused.
      if (setup.underlay === "batched" || error instanceof PlatformError) throw error;
      notes.push(`the batched underlay cannot be used (${messageOf(error)}): the portable one is slower`);
    }
  }
  return { underlay: await openDgramUnderlay(memory, options), kind: "dgram" };
}

/** Opens what this node seals with, and the sockets for it, which are of the other underlay's kind; undefined: it does not seal. */
async function openSealed(
  setup: WorkerOptions,
  kind: "batched" | "dgram",
  memory: PacketMemory,
): Promise<OpenedSealed> {
  if (setup.sealedPort === undefined) return undefined;
  const options = { ...underlayOptions(setup), port: setup.sealedPort };
  const underlay =
    kind === "batched"
      ? openUdpUnderlay(memory, { ...options, steering: "spi" })
      : await openDgramUnderlay(memory, options);
  return { underlay, keys: new AeadEngine(memory) };
}

/** The descriptors to wait for, each at the place of its bit in a set of sides. */
function sideFds(underlay: Underlay, device: Device, sealed: SealedSide | undefined): number[] {
  const fds = new Array<number>(SIDES).fill(-1);
  fds[0] = underlay.fd;
  for (const [lane, fd] of device.fds.entries()) fds[1 + lane] = fd;
  if (sealed !== undefined) fds[SIDES - 1] = sealed.underlay.fd;
  return fds;
}

/** The message that answers a command. A command that fails is refused, and the packets go on. */
function answer(engine: Engine, id: number, command: WorkerCommand): WorkerMessage {
  try {
    return { type: "result", id, value: carryOut(engine, command) };
  } catch (error) {
    return { type: "refused", id, message: messageOf(error) };
  }
}

function carryOut(engine: Engine, command: WorkerCommand): WorkerResults[keyof WorkerResults] {
  switch (command.type) {
    case "apply":
      engine.apply(command.diff);
      return undefined;
    case "health":
      engine.setHealth(command.report);
      return undefined;
    case "addAnswer":
      engine.answers.add(command.answer);
      return undefined;
    case "forgetAnswers":
      engine.answers.forget();
      return undefined;
    case "loseWays":
      engine.loseWays(command.addresses);
      return undefined;
    case "avoidLane":
      engine.avoidLane(command.vteps);
      return undefined;
    case "putAssociations":
      engine.putAssociations(command.inbound, command.outbound);
      return undefined;
    case "forgetAssociations":
      engine.forgetAssociations(command.spis, command.vteps);
      return undefined;
    case "report":
      return engine.report();
    case "stop":
      return undefined;
  }
}
