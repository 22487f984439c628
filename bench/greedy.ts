// The time that 60 requests of a container to a service of the other node take, while another container of its node floods,
// and without a flood.
import type { LabHost, LabNode } from "../test/system/lab.ts";
import { networkOf, vipOf } from "../test/system/listings.ts";
import { program } from "../test/system/program.ts";

import { Background } from "./background.ts";
import type { Experiment, Sample } from "./experiment.ts";
import { LIMITS } from "./limits.ts";
import { NETWORK, type Overlay, startService } from "./overlay.ts";

const REQUESTS = 60;
const ECHO_PORT = 7;
const SERVICE = "echo";
const FLOODS = [
  ["syn", "connections to ports without number"],
  ["udp", "datagrams to ports without number"],
  ["fragments", "first fragments alone"],
  ["dns", "questions"],
] as const;

export function greedyExperiments(overlay: Overlay): Experiment[] {
  const [node1, node2] = overlay.lab.nodes as [LabNode, LabNode];
  const { from: greedy, to: modest } = overlay.local;
  let server: LabHost;
  let vip = "";
  return FLOODS.map(([kind, what]) => ({
    group: "greedy",
    title: `${REQUESTS} requests of a container beside one that floods with ${what}`,
    metrics: [{ id: "all answered after", unit: "s", digits: 1, limit: LIMITS.besideFlood }],
    contenders: [
      { name: "beside the flood", measure: () => besideFlood(kind) },
      { name: "without it", measure: () => requests(modest, vip) },
    ],
    before: async () => {
      const command = program("echo-server", ECHO_PORT);
      server = await startService(node1, { name: SERVICE, on: node2, command });
      vip = (await vipOf(node1, SERVICE)) ?? "";
    },
    after: async () => {
      await node1.ctl("service", "rm", SERVICE);
    },
  }));

  async function besideFlood(kind: string): Promise<Sample> {
    const target = kind === "dns" ? (await networkOf(node1, NETWORK)).gateway : server.address;
    const flood = await Background.start(greedy, program("flood", kind, greedy.address, target), /sent/);
    try {
      return await requests(modest, vip);
    } finally {
      await flood.stop();
    }
  }
}

/** Each request is a connection of its own. Throws when one is not answered. */
async function requests(from: LabHost, address: string): Promise<Sample> {
  const began = performance.now();
  await from.exec(program("ask", "tcp", address, ECHO_PORT, REQUESTS));
  return { "all answered after": (performance.now() - began) / 1000 };
}
