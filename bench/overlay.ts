// Two or more nodes with the agent on them, and containers: one on the first, a service's task on the second, a third
// container beside the first. The bench measures the ways between them.
import { createLab, type Lab, LabHost, type LabNode } from "../test/system/lab.ts";
import { addressOf, namespaceOf, untilRunning, vipOf } from "../test/system/listings.ts";
import type { Path } from "./path.ts";
import { TCP_PORT } from "./probes.ts";

export const NETWORK = "bench";
const TASK_PORT = 5201;

export interface OverlayOptions {
  prefix: string;
  /** At least 2; left out: 2. */
  nodes?: number;
  /** Settings that replace those of the agents' `datapath` section. */
  datapath: Readonly<Record<string, number | string>>;
  /** Whether the network is encrypted. */
  encrypted?: boolean;
  /** Called before the agents are started: it may change the commands that start them. */
  beforeAgents?: (lab: Lab) => void;
  /** The compiled tree that agents and overlayctl are of; left out: this one. */
  build?: string;
}

export class Overlay {
  readonly lab: Lab;
  /** Container to container over two nodes. */
  readonly direct: Path;
  /** The same through the service's virtual IP. */
  readonly vip: Path;
  /** From outside, through the published port of the node that the task is not on. */
  readonly mesh: Path;
  /** Two containers of one node. */
  readonly local: Path;

  static async start({
    prefix,
    nodes = 2,
    datapath,
    encrypted,
    beforeAgents,
    build,
  }: OverlayOptions): Promise<Overlay> {
    const lab = await createLab({
      prefix,
      nodes,
      engine: true,
      settings: { datapath },
      ...(build === undefined ? {} : { build }),
    });
    try {
      beforeAgents?.(lab);
      await lab.startAgents();
      const [node1, node2] = lab.nodes as [LabNode, LabNode];
      await node1.ctl("network", "create", ...(encrypted ? ["--opt", "encrypted"] : []), NETWORK);
      const source = await startService(node1, { name: "source", on: node1, command: ["sleep", "infinity"] });
      const neighbor = await startService(node1, { name: "neighbor", on: node1, command: ["sleep", "infinity"] });
      const target = await startService(node1, {
        name: "target",
        on: node2,
        command: ["iperf3", "-s", "-p", `${TASK_PORT}`],
        publish: `${TCP_PORT}:${TASK_PORT}`,
      });
      const vip = await vipOf(node1, "target");
      if (vip === null) throw new Error("the service has no virtual IP");
      return new Overlay(lab, { source, neighbor, target, vip });
    } catch (error) {
      await lab.teardown();
      throw error;
    }
  }

  private constructor(lab: Lab, hosts: { source: LabHost; neighbor: LabHost; target: LabHost; vip: string }) {
    this.lab = lab;
    const { source, neighbor, target, vip } = hosts;
    const agents = (): number[] => this.agents();
    this.direct = { from: source, to: target, address: target.address, agents };
    this.vip = { from: source, to: target, address: vip, agents };
    this.mesh = { from: lab.client, to: target, address: lab.nodes[0]!.address, agents };
    this.local = { from: source, to: neighbor, address: neighbor.address, agents };
  }

  /** The agents' process ids. */
  agents(): number[] {
    return this.lab.nodes.map(({ name, agentPid }) => {
      if (agentPid === undefined) throw new Error(`${name}'s agent does not run`);
      return agentPid;
    });
  }
}

/** Starts a service with one task, on node `on`; returns the task's container. */
export async function startService(
  manager: LabNode,
  service: { name: string; on: LabNode; command: readonly string[]; publish?: string },
): Promise<LabHost> {
  const { name, on, command, publish } = service;
  const publishing = publish === undefined ? [] : ["--publish", publish];
  const placing = ["--network", NETWORK, "--constraint", `node.name==${on.name}`];
  await manager.ctl("service", "create", "--name", name, ...placing, ...publishing, "--", ...command);
  const [task] = await untilRunning(manager, name, 1);
  return new LabHost(namespaceOf(task!), addressOf(task!));
}
