// The short fuzz of the data path; `npm run fuzz` is the long one.
import test from "ava";
import { fuzzDataPath } from "./data-path.ts";

const PACKETS = 100_000;

test(`${PACKETS} packets that are nearly right: each comes out or is counted, and none breaks anything`, (t) => {
  const seed = Date.now() & 0x7fffffff;
  t.log(`seed ${seed}`);
  const outcome = fuzzDataPath({ packets: PACKETS, seed });
  t.log(JSON.stringify(outcome));
  for (const what of ["written", "sent", "bad-header-checksum", "spoofed-source", "fragment-without-first"]) {
    t.true((outcome[what] ?? 0) > 10, `${what}: the fuzz reaches it`);
  }
});
