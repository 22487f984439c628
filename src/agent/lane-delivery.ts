// How the express lane brings segments from peers to containers. Where they come whole, as super-packets, they go into the container's end
// of its link at once. Where they come singly, as from a plain network card, they go by the link, which joins them. The features of
// the underlay's link tell: what it would cut before it sends comes cut from the other side too.
import { messageOf } from "../lib/errors.ts";
import type { Log } from "../lib/log.ts";
import { Turns } from "../lib/turns.ts";
import type { Links } from "../links/links.ts";
import { SyscallError } from "../linux/libc.ts";
import { withLinkFeatures } from "../linux/link-features.ts";
import type { ExpressLane } from "./express-lane.ts";

/** A link with all of these passes super-packets on in the tunnel's frames. */
const KEEPS_WHOLE = ["tx-tcp-segmentation", "tx-generic-segmentation", "tx-udp_tnl-segmentation"];

interface LaneDeliveryOptions {
  lane: Pick<ExpressLane, "goesByLink" | "goByLink">;
  links: Pick<Links, "join">;
  log: Log;
  /** The features of a link that are on; by default those that the kernel has. */
  featuresOf?: (link: string) => ReadonlySet<string>;
}

export class LaneDelivery {
  readonly #options: Required<LaneDeliveryOptions>;
  readonly #turns = new Turns();
  #byLink: boolean | undefined;

  constructor(options: LaneDeliveryOptions) {
    const featuresOf = (link: string) => withLinkFeatures(undefined, (features) => features.active(link));
    this.#options = { featuresOf, ...options };
  }

  /** Looks at the underlay's link, which is this one now: at the start, and whenever links change. A few system calls. */
  look(link: string): void {
    const { featuresOf, log } = this.#options;
    let lacks: string | undefined;
    try {
      const features = featuresOf(link);
      lacks = KEEPS_WHOLE.find((feature) => !features.has(feature));
    } catch (error) {
      if (!(error instanceof SyscallError)) throw error;
      return; // the link has gone meanwhile
    }
    const byLink = lacks !== undefined;
    if (byLink === this.#byLink) return;
    this.#byLink = byLink;
    log.info(
      byLink
        ? "segments from peers come singly: in the express lane they go by the containers' links, which join them"
        : "segments from peers come whole: in the express lane they go into the containers at once",
      { reason: byLink ? `${link} has ${lacks} off` : `${link} has ${KEEPS_WHOLE.join(", ")} on` },
    );
    void this.#turns
      .run(() => this.#turn(byLink))
      .catch((error: unknown) => {
        log.error("containers' links do not join the segments that come singly to them as they should", {
          reason: messageOf(error),
        });
      });
  }

  /** Resolves when what was last seen is done. */
  settled(): Promise<void> {
    return this.#turns.settled();
  }

  /** Segments go by links only while these join them: nothing breaks where they do not, but each is a packet of its own. */
  async #turn(byLink: boolean): Promise<void> {
    const { lane, links } = this.#options;
    if (!byLink) lane.goByLink(false);
    await links.join(byLink);
    if (byLink) lane.goByLink(true);
  }
}
