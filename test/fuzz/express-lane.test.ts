// The short fuzz of the lane's programs; `npm run fuzz` is the long one.
import { bpfTest } from "../express/bpf-test.ts";
import { fuzzEntrances } from "./entrances.ts";
import { fuzzLane } from "./express-lane.ts";
import { fuzzBesideAgent } from "./lane-and-agent.ts";

const FRAMES = 20_000;
const PACKETS = 20_000;

bpfTest(`${FRAMES} frames that are nearly right get from the lane's programs what the rules say, byte by byte`, (t) => {
  const seed = Date.now() & 0x7fffffff;
  t.log(`seed ${seed}`);
  const outcome = fuzzLane(FRAMES, seed);
  t.log(JSON.stringify(outcome));
  const sent = ["encapsulated", "delivered"];
  const passedOn = ["Length", "HeaderChecksum", "NoEntry", "TooBig", "LostGround", "TcpFlags", "Ttl", "NoUdpChecksum"];
  for (const what of [...sent, ...passedOn, "Congestion", "OtherVtep", "UnfinishedOuter"]) {
    t.true((outcome[what] ?? 0) > 10, `${what}: the fuzz reaches it`);
  }
});

bpfTest(
  `${FRAMES} frames that come to a node: those for published ports are led to the agent, the others go on`,
  (t) => {
    const seed = Date.now() & 0x7fffffff;
    t.log(`seed ${seed}`);
    const { led, left } = fuzzEntrances(FRAMES, seed);
    t.log(JSON.stringify({ led, left }));
    t.true(led! > 500 && left! > 500, "the fuzz reaches both");
  },
);

bpfTest(
  `${PACKETS} packets that are nearly right: what the lane carries of them, the agent carries in the same bytes`,
  async (t) => {
    const seed = Date.now() & 0x7fffffff;
    t.log(`seed ${seed}`);
    const outcome = await fuzzBesideAgent(PACKETS, seed);
    t.log(JSON.stringify(outcome));
    for (const what of ["encapsulated", "delivered", "passed on"]) t.true((outcome[what] ?? 0) > 100, what);
  },
);
