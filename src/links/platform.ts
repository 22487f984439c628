// What the machine must have before anything is set up: each thing that is missing is named, with what mends it.
import { access } from "node:fs/promises";
import { run } from "../lib/command.ts";
import { PlatformError } from "../lib/errors.ts";
import { type Cidr, formatCidr, overlaps, parseCidr } from "../lib/ip.ts";
import { platformError, tcBatch } from "./iproute.ts";
import { readHostRoutes } from "./read.ts";

/** Halves of the whole address space are how some VPNs write a default route. */
const DEFAULT_ROUTE_BITS = 1;

/** Throws PlatformError. */
export async function checkPlatform(): Promise<void> {
  if (process.geteuid?.() !== 0) throw new PlatformError("overlayd needs root", "sudo overlayd --config FILE");
  await run(["ip", "-V"]);
  await run(["tc", "-V"]);
  try {
    await access("/dev/net/tun");
  } catch (error) {
    const mend = "modprobe tun; in a container, add --device /dev/net/tun";
    throw new PlatformError("there is no /dev/net/tun", mend, { cause: error });
  }
}

/** Refuses a pool that would hide one of the host's own routes, or be hidden by it. */
export async function checkPool(pool: Cidr, device: string): Promise<void> {
  for (const route of await readHostRoutes(device)) {
    const prefix = parseCidr(route.dst);
    if (prefix === undefined || prefix.bits <= DEFAULT_ROUTE_BITS || !overlaps(prefix, pool)) continue;
    throw new PlatformError(
      `the pool ${formatCidr(pool)} overlaps the host's route '${route.text}'`,
      `ip route show ${route.dst}, and set another 'pool'`,
    );
  }
}

/** Tries on `device` the qdisc, classifier and action that containers' links will need. The filter never matches. */
export async function checkTrafficControl(device: string): Promise<void> {
  const lines = [
    `qdisc add dev ${device} clsact`,
    `filter add dev ${device} ingress protocol ip prio 1 u32 match ip src 255.255.255.255/32 action mirred egress redirect dev ${device}`,
    `qdisc del dev ${device} clsact`,
  ];
  const [first] = await tcBatch(lines);
  if (first !== undefined) throw platformError(`tc ${lines[first.index]}`, first.reason);
}
