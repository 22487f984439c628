// Takes down what links/ ever puts up, whether this process did it or one before it.
import { cidr } from "../lib/ip.ts";
import { noLinks, TABLE } from "./desired.ts";
import { ipBatch, platformError, type RefusedLine } from "./iproute.ts";
import { readLinks } from "./read.ts";

/** Host ends, rule, table and the TUN; addresses and routes go with them. Throws PlatformError. */
export async function removeLinks(device: string): Promise<void> {
  const lines = await linesToRemove(device);
  const refused = await ipBatch(null, lines);
  if (refused.length === 0) return;
  const problem = firstStillThere(lines, refused, await linesToRemove(device));
  if (problem !== undefined) throw platformError(`ip ${lines[problem.index]}`, problem.reason);
}

/** The first refused line whose object is there all the same: a container that ends at the same time takes its link with it. */
export function firstStillThere(
  lines: readonly string[],
  refused: readonly RefusedLine[],
  left: readonly string[],
): RefusedLine | undefined {
  return refused.find(({ index }) => left.includes(lines[index]!));
}

async function linesToRemove(device: string): Promise<string[]> {
  const { veths, facts, device: tun } = await readLinks(noLinks(device, cidr("0.0.0.0/0"), 0), () => false);
  return [
    ...[...veths.keys()].map((name) => `link del dev ${name}`),
    ...[...facts.rule.values()].map((rule) => `rule del ${rule}`),
    ...(facts.route.size > 0 ? [`route flush table ${TABLE}`] : []),
    ...(tun?.adoptable === true ? [`link del dev ${device}`] : []),
  ];
}
