// The data path allocates nothing for a packet: measured over a whole run of them, in a process of its own.
import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import test from "ava";
import type { AllocationReport } from "./allocation-run.ts";

/** The smallest object has 16. The rest is what the compiler and a step of the loop leave behind. */
const BYTES_PER_PACKET = 4;
const BYTES_PER_NEW_FLOW = 48;

for (const lane of ["no lane", "lane", "sealed"]) {
  test(`200,000 packets of flows there are, and 20,000 new flows, leave next to nothing on the heap: ${lane}`, async (t) => {
    const script = fileURLToPath(new URL("allocation-run.js", import.meta.url));
    // A young generation that is never full in the run: what is allocated is still there to be counted.
    const flags = ["--expose-gc", "--min-semi-space-size=128", "--max-semi-space-size=128"];
    const { stdout } = await promisify(execFile)(process.execPath, [...flags, script, lane]);
    const report = JSON.parse(stdout) as AllocationReport;
    t.log(stdout);
    t.deepEqual(report.drops, [{}, {}]);
    t.true(report.carried > report.packets * 500, "they were carried");
    t.is(report.entered > report.newFlows, lane === "lane");
    t.true(report.bytesPerPacket < BYTES_PER_PACKET, `${report.bytesPerPacket} bytes a packet`);
    t.true(report.bytesPerNewFlow < BYTES_PER_NEW_FLOW, `${report.bytesPerNewFlow} bytes a new flow`);
  });
}
