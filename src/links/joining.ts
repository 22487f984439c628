// Lets containers' links join what comes to them in single segments (GRO), or not, which is how they are made. The kernel joins at a
// container's end only what the host's end would not leave to a card (TSO), so the two go together.
import { messageOf } from "../lib/errors.ts";
import type { Log } from "../lib/log.ts";
import { withLinkFeatures } from "../linux/link-features.ts";
import { type DesiredEndpoint, vethName } from "./desired.ts";
import type { Link } from "./read.ts";

const JOINS = /^rx-gro$/;
/** All kinds of TSO: a link with one of them left does not join. Kernels have more of them from version to version. */
const SEGMENTS = /^tx-tcp.*-segmentation$/;

export class Joining {
  readonly #log: Log;
  /** Whether links are to join. */
  isOn = false;
  // BOUNDED: by the endpoints. Host end's name to its index and `isOn` when it was last set.
  #done = new Map<string, string>();

  constructor(log: Log) {
    this.#log = log;
  }

  /** Sets the links of these endpoints that are not set yet: a few system calls each. A link that refuses carries all the same. */
  apply(endpoints: readonly DesiredEndpoint[], veths: ReadonlyMap<string, Link>): void {
    const before = this.#done;
    this.#done = new Map();
    for (const endpoint of endpoints) {
      const name = vethName(endpoint.address);
      const veth = veths.get(name);
      if (veth === undefined) continue;
      const wanted = `${veth.ifindex} ${this.isOn}`;
      this.#done.set(name, wanted);
      if (before.get(name) !== wanted) this.#set(endpoint, name);
    }
  }

  /** The host's end is the last on the way there and back, so that it tells how far an agent has come that was stopped meanwhile. */
  #set({ netns, ifname, address }: DesiredEndpoint, name: string): void {
    try {
      withLinkFeatures(undefined, (host) => {
        const joins = ![...host.active(name)].some((feature) => SEGMENTS.test(feature));
        if (joins === this.isOn) return;
        withLinkFeatures(netns, (container) => container.turn(ifname, JOINS, this.isOn));
        host.turn(name, SEGMENTS, !this.isOn);
      });
    } catch (error) {
      const what = this.isOn ? "does not join the segments that come singly to it" : "goes on joining segments";
      this.#log.warn(`the link of a container ${what}`, { address, reason: messageOf(error) });
    }
  }
}
