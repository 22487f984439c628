// The reference: the kernel's own VXLAN device in a bridge with veth containers, static forwarding entries, on the
// same nodes and underlay; and nftables DNAT in front of it, as the kernel's way of a virtual IP.
import { run } from "../test/system/command.ts";
import { type Lab, LabHost, type LabNode } from "../test/system/lab.ts";
import { passByNetfilter } from "../test/system/lab-underlay.ts";
import type { Path } from "./path.ts";
import { CONNECTIONS_PORT } from "./probes.ts";

const VNI = 77;
/** UDP port of the device; the agent has 4789. */
const PORT = 4790;
const MTU = 1450;
const MULTICAST_MAC = "00:00:00:00:00:00"; // the entry for what has no other: broadcast and unknown
/** Address of the first node in the bridge. */
export const BRIDGE_ADDRESS = "172.30.0.1";
/** The DNAT's client has a subnet of its own: within the bridge, replies would pass the translation by. */
const CLIENT_GATEWAY = "172.30.1.1";
const CLIENT_ADDRESS = "172.30.1.2";
const CLIENT_SUBNET = "172.30.1.0/24";
const VIP = "172.30.2.1";

const agents = (): number[] => [];

export class KernelVxlan {
  /** Container to container over two nodes. */
  readonly direct: Path;
  /** The same through DNAT on the first node. */
  readonly vip: Path;
  /** Two containers on one bridge. */
  readonly local: Path;

  static async build(lab: Lab, prefix: string): Promise<KernelVxlan> {
    const [node1, node2] = lab.nodes as [LabNode, LabNode];
    await addBridge(node1, node2);
    await addBridge(node2, node1);
    const source = await addContainer(node1, `${prefix}-kernel1`, 11);
    const neighbor = await addContainer(node1, `${prefix}-kernel2`, 12);
    const target = await addContainer(node2, `${prefix}-kernel3`, 13);
    const client = await addTranslation(node1, `${prefix}-kernel4`, target);
    return new KernelVxlan({ source, neighbor, target, client });
  }

  private constructor(hosts: { source: LabHost; neighbor: LabHost; target: LabHost; client: LabHost }) {
    const { source, neighbor, target, client } = hosts;
    this.direct = { from: source, to: target, address: target.address, agents };
    this.vip = { from: client, to: target, address: VIP, agents };
    this.local = { from: source, to: neighbor, address: neighbor.address, agents };
  }
}

async function addBridge(node: LabNode, peer: LabNode): Promise<void> {
  await passByNetfilter(node.netns);
  await batch(node, [
    `link add kbr0 mtu ${MTU} type bridge`,
    `link add kvx0 mtu ${MTU} type vxlan id ${VNI} dstport ${PORT} local ${node.address} nolearning`,
    "link set kvx0 master kbr0",
    "link set kbr0 up",
    "link set kvx0 up",
  ]);
  await node.exec(["bridge", "fdb", "append", MULTICAST_MAC, "dev", "kvx0", "dst", peer.address]);
}

/** Adds a namespace with a link into the node's bridge. */
async function addContainer(node: LabNode, netns: string, host: number): Promise<LabHost> {
  const address = `172.30.0.${host}`;
  await addLinkedNamespace(node, netns, `kveth${host}`);
  await batch(node, [`link set kveth${host} master kbr0`]);
  const container = new LabHost(netns, address);
  await batch(container, [`address add ${address}/24 dev eth0`]);
  return container;
}

/** Adds a client, with the rule that its connections to VIP go to `target`. */
async function addTranslation(node: LabNode, netns: string, target: LabHost): Promise<LabHost> {
  await addLinkedNamespace(node, netns, "kveth-c");
  await batch(node, [`address add ${BRIDGE_ADDRESS}/24 dev kbr0`, `address add ${CLIENT_GATEWAY}/24 dev kveth-c`]);
  await node.exec(["sysctl", "-q", "-w", "net.ipv4.ip_forward=1"]);
  const client = new LabHost(netns, CLIENT_ADDRESS);
  await batch(client, [`address add ${CLIENT_ADDRESS}/24 dev eth0`, `route add default via ${CLIENT_GATEWAY}`]);
  await batch(target, [`route add ${CLIENT_SUBNET} via ${BRIDGE_ADDRESS}`]);
  const rules = `
    table ip bench {
      chain prerouting {
        type nat hook prerouting priority dstnat
        ip daddr ${VIP} tcp dport ${CONNECTIONS_PORT} dnat to ${target.address}
      }
    }`;
  await node.exec(["nft", "-f", "-"], { input: rules });
  return client;
}

export async function addLinkedNamespace(node: LabNode, netns: string, link: string, mtu = MTU): Promise<void> {
  await run(["ip", "netns", "add", netns]);
  await batch(node, [
    `link add ${link} mtu ${mtu} type veth peer name eth0 mtu ${mtu} netns ${netns}`,
    `link set ${link} up`,
  ]);
  await run(["ip", "-n", netns, "-batch", "-"], { input: "link set lo up\nlink set eth0 up\n" });
}

export async function batch(host: LabHost, lines: readonly string[]): Promise<void> {
  await run(["ip", "-n", host.netns, "-batch", "-"], { input: `${lines.join("\n")}\n` });
}
