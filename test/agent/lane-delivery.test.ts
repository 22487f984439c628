// By the features of the underlay's link the lane's segments go by the containers' links, which then join them, or not.
import test from "ava";
import { LaneDelivery } from "../../src/agent/lane-delivery.ts";
import { silentLog } from "../../src/lib/log.ts";
import * as libc from "../../src/linux/libc.ts";

const WHOLE = ["tx-tcp-segmentation", "tx-generic-segmentation", "tx-udp_tnl-segmentation", "rx-gro"];

/** Links and a lane that note what they are told. */
function rig(features: { now: readonly string[] | undefined }) {
  const told: string[] = [];
  const lane = { goesByLink: false, goByLink: (byLink: boolean) => void told.push(byLink ? "by link" : "at once") };
  const links = { join: async (isOn: boolean) => void told.push(isOn ? "links join" : "links do not join") };
  const featuresOf = (): ReadonlySet<string> => {
    if (features.now === undefined) throw libc.syscallError("ethtool of eth0", libc.Errno.NoDevice);
    return new Set(features.now);
  };
  return { told, delivery: new LaneDelivery({ lane, links, log: silentLog, featuresOf }) };
}

test("where the link passes super-packets on, links need not join, and the lane does not go by them", async (t) => {
  const { told, delivery } = rig({ now: WHOLE });
  delivery.look("eth0");
  delivery.look("eth0");
  await delivery.settled();
  t.deepEqual(told, ["at once", "links do not join"], "said once, also of links that an agent before had join");
});

for (const lacks of WHOLE.slice(0, 3)) {
  test(`without ${lacks} segments come singly: links join them before the lane goes by links, and after it`, async (t) => {
    const features: { now: readonly string[] | undefined } = { now: WHOLE.filter((feature) => feature !== lacks) };
    const { told, delivery } = rig(features);
    delivery.look("eth0");
    await delivery.settled();
    t.deepEqual(told.splice(0), ["links join", "by link"]);
    features.now = undefined; // the link has gone meanwhile
    delivery.look("eth0");
    await delivery.settled();
    t.deepEqual(told.splice(0), []);
    features.now = WHOLE;
    delivery.look("eth0");
    await delivery.settled();
    t.deepEqual(told, ["at once", "links do not join"]);
  });
}
