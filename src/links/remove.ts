// Takes down what links/ ever puts up, whether this process did it or one before it.
import { cidr } from "../lib/ip.ts";
import { noLinks, TABLE } from "./desired.ts";
import { ipBatch, platformError } from "./iproute.ts";
import { readLinks } from "./read.ts";

/** Host ends, rule, table and the TUN; addresses and routes go with them. Throws PlatformError. */
export async function removeLinks(device: string): Promise<void> {
  const { veths, facts, device: tun } = await readLinks(noLinks(device, cidr("0.0.0.0/0"), 0), () => false);
  const lines = [
    ...[...veths.keys()].map((name) => `link del dev ${name}`),
    ...[...facts.rule.values()].map((rule) => `rule del ${rule}`),
    ...(facts.route.size > 0 ? [`route flush table ${TABLE}`] : []),
    ...(tun?.adoptable === true ? [`link del dev ${device}`] : []),
  ];
  const [refused] = await ipBatch(null, lines);
  if (refused !== undefined) throw platformError(`ip ${lines[refused.index]}`, refused.reason);
}
