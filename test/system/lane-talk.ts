// Connections whose flows are to go in the express lane, for the system's tests: a client on one node that is kept busy, and its server.
import test, { type ExecutionContext } from "ava";
import type { FlowView } from "../../src/api/schema.ts";
import { whatBpfLacks } from "../../src/linux/bpf-probe.ts";
import { Background, waitFor } from "./command.ts";
import type { LabNode } from "./lab.ts";
import { laneStory } from "./lane-story.ts";
import { program } from "./program.ts";
import { systemTest } from "./system-test.ts";

const LACK = process.getuid?.() === 0 ? whatBpfLacks() : undefined;
/** Bytes that each line of a talk has more, if nothing else is said. */
const BYTES = 1000;

/** Starts an echo server on the network `web`; `more` are further options of its service. */
export async function createServer(node1: LabNode, name: string, on: LabNode, ...more: string[]): Promise<void> {
  const where = ["--network", "web", "--constraint", `node.name==${on.name}`, ...more];
  await node1.ctl("service", "create", "--name", name, ...where, "--", ...program("echo-server", 7));
}

export function laneTest(title: string, body: (t: ExecutionContext) => Promise<void>): void {
  if (LACK === undefined) systemTest(title, body);
  else test.serial.skip(`${title} (skipped: ${LACK})`, body);
}

/** A connection from node 1 that is kept busy; each line has so many bytes more. */
export async function talkTo(t: ExecutionContext, node1: LabNode, address: string, bytes = BYTES): Promise<Background> {
  const argv = ["overlayctl", "run", "--network", "web", "--", ...program("talk", address, 7, bytes)];
  const talk = new Background(node1.inside(argv), node1.env);
  t.teardown(() => void talk.end("SIGTERM"));
  return talk.says("talking");
}

export function answersOf(talk: Background): number {
  return Number([...talk.output.matchAll(/^answers: (\d+)$/gm)].at(-1)?.[1] ?? 0);
}

export async function untilGoesOn(talk: Background, more = 20): Promise<void> {
  const before = answersOf(talk);
  await waitFor(() => answersOf(talk) >= before + more, { what: "the connection to go on" });
}

/** Waits until a live flow to the server goes in this node's lane, with both ends. */
export function untilInLane(node: LabNode, service: string, by = "tcp"): Promise<FlowView> {
  return waitFor(
    async () => {
      const flows = await node.ctlJson<FlowView[]>("flows", "--service", service);
      return flows.find(({ lane, protocol }) => lane === "both" && protocol === by);
    },
    { what: `the flow to ${service} to be in ${node.name}'s lane` },
  ).catch(async (cause: Error) => {
    throw new Error(`${cause.message}\n${await laneStory(node)}`, { cause });
  });
}
