// A node without an express lane, as a person meets it.
import test from "ava";
import { absentLane } from "../../src/agent/express-lane.ts";

test("a lane that is absent is not turned on, and the refusal says why", (t) => {
  const lane = absentLane("unavailable", "this kernel (6.1.0) has no tcx, which came with Linux 6.6");
  t.throws(() => lane.turn(true), {
    message: "this node has no express lane: this kernel (6.1.0) has no tcx, which came with Linux 6.6",
  });
  t.notThrows(() => lane.turn(false), "it is off");
  t.is(lane.whyOff("192.0.2.12"), "unavailable");
});
