// What is removed while containers end by themselves.
import test from "ava";
import { firstStillThere } from "../../src/links/remove.ts";

const LINES = ["link del dev ovl0ac00001", "link del dev ovl0ac00002", "route flush table 78"];
const GONE = { index: 0, reason: 'Cannot find device "ovl0ac00001"' };
const BUSY = { index: 1, reason: "Device or resource busy" };

test("a link that went with its container is no failure, one that stays is", (t) => {
  t.is(firstStillThere(LINES, [GONE], []), undefined);
  t.is(firstStillThere(LINES, [GONE], [LINES[1]!]), undefined);
  t.deepEqual(firstStillThere(LINES, [GONE, BUSY], [LINES[1]!]), BUSY);
});
