// The time in which a node carries nothing and answers no names, when its agent is killed and started again at once: on a
// quiet machine, and beside loops that keep every processor busy, each in a session of its own.
import { availableParallelism } from "node:os";
import { fileURLToPath } from "node:url";
import type { LabHost, LabNode } from "../test/system/lab.ts";
import { networkOf } from "../test/system/listings.ts";
import { Background } from "./background.ts";
import { BusyLoops } from "./busy-loops.ts";
import type { Experiment, Sample } from "./experiment.ts";
import { LIMITS } from "./limits.ts";
import { NETWORK, type Overlay } from "./overlay.ts";

const PING_SECONDS = "0.01";
const ASK_NAMES = fileURLToPath(new URL("./ask-names.js", import.meta.url));
/** Time for which pings and questions go on after the agent answers again. */
const AFTER_MS = 1000;

export function restartExperiments(overlay: Overlay): Experiment[] {
  return [
    restartExperiment(overlay, "quiet", 0, { forwarding: LIMITS.forwardingBack, names: LIMITS.namesBack }),
    restartExperiment(overlay, `beside ${availableParallelism()} busy loops`, availableParallelism(), {
      forwarding: LIMITS.forwardingBackBusy,
      names: LIMITS.namesBackBusy,
    }),
  ];
}

function restartExperiment(
  overlay: Overlay,
  title: string,
  loops: number,
  limits: { forwarding: (typeof LIMITS)["forwardingBack"]; names: (typeof LIMITS)["namesBack"] },
): Experiment {
  const busy = new BusyLoops();
  return {
    group: "restart",
    title: `the agent is killed and started again, ${title}`,
    metrics: [
      { id: "without forwarding", unit: "s", digits: 2, limit: limits.forwarding },
      { id: "without names", unit: "s", digits: 2, limit: limits.names },
    ],
    contenders: [{ name: "overlayd", measure: () => restart(overlay) }],
    before: async () => busy.start(loops),
    after: () => busy.stop(),
  };
}

/** Kills and starts the agent of the first node, which leads. Throws when a link was made anew. */
export async function restart({ lab, direct }: Overlay): Promise<Sample> {
  const node = lab.nodes[0] as LabNode;
  const { gateway } = await networkOf(node, NETWORK);
  const pings = await startPings(direct.from, direct.address);
  const names = await Background.start(direct.from, [process.execPath, ASK_NAMES, gateway, "target"], /asking/);
  const links = await linksOf(node);
  await node.killAgent();
  await node.startAgent();
  await new Promise((resolve) => setTimeout(resolve, AFTER_MS));
  if ((await linksOf(node)) !== links) throw new Error("a link was made anew");
  const [pinged, asked] = [await pings(), await silenceOf(names)];
  return { "without forwarding": pinged, "without names": asked };
}

/** The names and indices of the links. */
function linksOf(node: LabNode): Promise<string> {
  return node.exec(["sh", "-c", "ip -o link | cut -d: -f1,2"]);
}

/** Starts pings. The function that it returns ends them and returns the longest time between two answers, in seconds. */
async function startPings(from: LabHost, to: string): Promise<() => Promise<number>> {
  const ping = await Background.start(from, ["ping", "-n", "-D", "-i", PING_SECONDS, to], /time=/);
  return async () => {
    const output = await ping.interrupt();
    const times = [...output.matchAll(/^\[(\d+\.\d+)\] .* time=/gm)].map(([, seconds]) => Number(seconds));
    return times.slice(1).reduce((longest, at, i) => Math.max(longest, at - times[i]!), 0);
  };
}

async function silenceOf(names: Background): Promise<number> {
  return Number((await names.interrupt("SIGTERM")).trim().split("\n").at(-1)) / 1000;
}
