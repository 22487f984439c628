// Segmentation offload of the underlay's links, off and on again. A veth never segments by itself; a plain network card
// gets frames, and making them is then the sender's work. The links' own counters show whether it is really off.
import { type Lab, LabHost } from "../test/system/lab.ts";

const FEATURES = ["tso", "gso", "tx-udp-segmentation", "tx-udp_tnl-segmentation", "tx-udp_tnl-csum-segmentation"];
const FRAME_BYTES = 1514;

export class UnderlayOffload {
  readonly #links: readonly (readonly [host: LabHost, link: string])[];
  readonly #sender: LabHost;

  constructor(lab: Lab, prefix: string) {
    const fabric = new LabHost(`${prefix}-switch`, "");
    this.#sender = lab.nodes[0]!;
    this.#links = lab.nodes.flatMap((node) => [
      [node, "eth0"] as const,
      [fabric, `p${node.address.split(".").at(-1)}`] as const,
    ]);
  }

  async turn(state: "on" | "off"): Promise<void> {
    for (const [host, link] of this.#links) {
      await host.exec(["ethtool", "-K", link, ...FEATURES.flatMap((feature) => [feature, state])]);
    }
  }

  /** Runs `work`, and throws when the sending link carried larger frames than a card would have. */
  async checked<T>(work: () => Promise<T>): Promise<T> {
    const before = await this.#sent();
    const result = await work();
    const after = await this.#sent();
    const bytes = (after.bytes - before.bytes) / (after.packets - before.packets);
    if (!(bytes <= FRAME_BYTES))
      throw new Error(`the underlay still carries super-packets: ${Math.round(bytes)} bytes each`);
    return result;
  }

  async #sent(): Promise<{ bytes: number; packets: number }> {
    const output = await this.#sender.exec(["ip", "-json", "-stats", "link", "show", "eth0"]);
    const [link] = JSON.parse(output) as { stats64: { tx: { bytes: number; packets: number } } }[];
    return link!.stats64.tx;
  }
}
