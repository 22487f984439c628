// A node's packet path without a cluster, in the network namespace that it is started in: links, workers, the express lane's maps and
// programs, as the agent has them, with the tables of a test. It is told by lines of JSON on standard input: {"call": "apply", "args":
// [rows]}. Each is answered by a line: {"result"} or {"error"}.
import { ExpressLane } from "../../../src/agent/express-lane.ts";
import type { TableRow, TableRows } from "../../../src/datapath/rows.ts";
import { systemClock } from "../../../src/lib/clock.ts";
import { createLog } from "../../../src/lib/log.ts";
import type { DesiredLinks } from "../../../src/links/desired.ts";
import { Links } from "../../../src/links/links.ts";
import { ifindexOf } from "../../../src/linux/interfaces.ts";
import { DataPath } from "../../../src/worker/data-path.ts";
import { diffTables } from "../../fakes/diff-tables.ts";
import { rowsOf } from "../../fakes/rows-of.ts";
import { answerCalls } from "./answer-calls.ts";

const PORT = 4789;
const FLOWS = 4096;
const ENTRIES = 2 * FLOWS;

interface Setup {
  address: string;
  /** The link on which peers are. */
  underlay: string;
  desired: DesiredLinks;
  flowFile: string;
}

const log = createLog("warn");
let dataPath: DataPath | undefined;
let rows: TableRows = new Map();

async function start({ address, underlay, desired, flowFile }: Setup): Promise<void> {
  const { device, pool, mtu } = desired;
  const lane = new ExpressLane(
    { directory: "", entries: ENTRIES, port: PORT, pool, clock: systemClock, log },
    undefined,
  );
  const links = new Links({ log, clock: systemClock, device, onHostEnds: (ends) => lane.setContainers(ends) });
  await links.prepare(pool, mtu);
  dataPath = await DataPath.start({
    ...{ device, address, port: PORT, pool, flowFile, flowCapacity: FLOWS, underlay: "auto", spinMicros: 0 },
    ...{ priority: 0, workers: 2, newFlowsPerSecond: 1_000_000, express: lane.setup, log },
    onFailure: (error) => {
      throw error;
    },
  });
  const problems = await links.apply(desired);
  if (problems.size > 0) throw new Error([...problems.values()].join());
  lane.setUnderlay(ifindexOf(underlay));
}

/** A test's arguments are what these take. */
const calls: Record<string, (...args: never[]) => unknown> = {
  start,
  /** Puts exactly these rows in force. */
  apply: async (next: TableRow[]) => {
    const before = rows;
    rows = rowsOf(next);
    await dataPath!.apply(diffTables(before, rows));
  },
  /** Packets that the lane has carried. */
  carried: async () => (await dataPath!.report()).express.packets,
};

await answerCalls(calls);
