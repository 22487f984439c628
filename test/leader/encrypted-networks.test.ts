// Networks whose containers' packets are sealed between nodes: what the leader writes of them.
import test from "ava";
import { UserError } from "../../src/lib/errors.ts";
import { Cluster } from "./cluster-fixture.ts";

const SETTINGS = { type: "network.create", name: "blue" } as const;

function blueOf({ leader }: Cluster) {
  return leader.state.networks.by("name", "blue")[0];
}

for (const encrypted of [undefined, false, true]) {
  test(`a network is created with 'encrypted' ${encrypted}`, async (t) => {
    const cluster = await Cluster.start(1);
    await cluster.leader.execute({ ...SETTINGS, ...(encrypted !== undefined && { encrypted }) });
    t.is(blueOf(cluster)!.encrypted, encrypted === true);
  });
}

test("where every network is encrypted, one that says nothing is so, and a clear one is refused", async (t) => {
  const cluster = await Cluster.start(1, { settings: { encrypt: true } });
  const refused = cluster.leader.execute({ ...SETTINGS, encrypted: false });
  const error = await t.throwsAsync(refused, { instanceOf: UserError });
  t.is(error!.code, 409);
  t.is(
    error!.message,
    "network 'blue' cannot be clear: the cluster was made with 'overlayctl init --encrypt', so every network is encrypted",
  );
  t.is(blueOf(cluster), undefined);
  await cluster.leader.execute(SETTINGS);
  t.true(blueOf(cluster)!.encrypted);
});
