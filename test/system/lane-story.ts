// What an agent and its express lane say of their flows, for the message of a test that has waited for the lane in vain.
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { flowFilesOf } from "../../src/agent/flow-file.ts";
import { Ride } from "../../src/datapath/express-marks.ts";
import { FlowState } from "../../src/datapath/flow-entries.ts";
import { FlowTable } from "../../src/datapath/flow-table.ts";
import { formatIpv4 } from "../../src/lib/ip.ts";
import type { LabNode } from "./lab.ts";

const LOG_LINES = 30;

/** A few kilobytes. What cannot be read is said in its place. */
export async function laneStory(node: LabNode): Promise<string> {
  const { api } = node;
  const [flows, peers, stats] = await Promise.allSettled([api.flows({ limit: 100 }), api.peers(), api.stats()]);
  const capacity = stats.status === "fulfilled" ? stats.value.datapath.flowCapacity! : 0;
  return [
    `-- ${node.name}`,
    ...[flows, peers, stats].map((answer) =>
      JSON.stringify(answer.status === "fulfilled" ? answer.value : String(answer.reason)),
    ),
    ...marksOf(node, capacity),
    node.logTail(LOG_LINES),
  ].join("\n");
}

/** The marks of each flow in its table, a line each. */
function marksOf(node: LabNode, capacity: number): string[] {
  const path = flowFilesOf(join(node.directory, "data")).find((each) => existsSync(each));
  if (path === undefined || capacity === 0) return ["no flow table"];
  const bytes = readFileSync(path);
  const flows = FlowTable.join(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length), capacity);
  const lines: string[] = [];
  for (let entry = 0; entry < 2 * flows.highWater; entry += 2) {
    const state = flows.stateOf(entry);
    if (state === FlowState.Free) continue;
    const ride = flows.rideOf(entry);
    const names = Object.entries(Ride).filter(([, bits]) => bits !== 0 && (ride & bits) === bits);
    const ends = [flows.sourceOf(entry), flows.sourceOf(entry + 1), flows.vipOf(entry)].map(formatIpv4);
    const vteps = [flows.fromOf(entry), flows.toOf(entry)].map(formatIpv4);
    const judged = `${names.map(([name]) => name).join("+")} grounds ${flows.groundSumOf(entry)}`;
    lines.push(`${ends.join(" ")} by ${vteps.join(" ")}: state ${state} fins ${flows.finsOf(entry)}, ${judged}`);
  }
  return lines;
}
