// Who gets the keys with a peer, and what others hear.
import test from "ava";
import { exportKeys } from "../../src/agent/export-keys.ts";
import { createLog } from "../../src/lib/log.ts";
import { Cluster } from "../leader/cluster-fixture.ts";

const key = Uint8Array.from({ length: 36 }, (_, i) => i);
const HEX = Buffer.from(key).toString("hex");
const view = { hasKeys: true, reason: null, ageMs: 1, rekeys: 0 };
const keys = {
  whyNot: undefined,
  peers: {
    view: () => ({ ...view, hasKeys: false, reason: "TCP 4789 at 192.0.2.12: nothing listens there" }),
    keysWith: () => ({ opening: [{ spi: 300, key }], sealing: [{ spi: 301, key }] }),
  },
};

async function asked(userAt: number | undefined, peer = "node2", own: Parameters<typeof exportKeys>[0]["keys"] = keys) {
  const { state } = (await Cluster.start(2)).leader;
  const ownId = [...state.nodes.values()].find(({ name }) => name === "node1")!.id;
  let logged = "";
  const log = createLog("debug", {
    write: (line) => {
      logged += line;
    },
  });
  const give = () => exportKeys({ keys: own, log, userAt: () => userAt }, { state, ownId, peer, descriptor: 9 });
  return { give, logged: () => logged };
}

test("root gets the keys of both directions, and the log says so without them", async (t) => {
  const { give, logged } = await asked(0);
  t.deepEqual(give().associations, [
    { source: "192.0.2.11", destination: "192.0.2.12", spi: 301, key: HEX },
    { source: "192.0.2.12", destination: "192.0.2.11", spi: 300, key: HEX },
  ]);
  t.regex(logged(), /the keys with a peer were given to root/);
  t.false(logged().includes(HEX.slice(0, 16)));
});

test("another user, and one that is not known, gets none", async (t) => {
  t.throws((await asked(1000)).give, {
    message: "keys are for root of this node alone, and not for user 1000: use sudo",
  });
  t.throws((await asked(undefined)).give, { message: /not for user unknown: use sudo/ });
});

test("a word that is no node, and a peer without keys, is an error that says so", async (t) => {
  t.throws((await asked(0, "node9")).give, { message: /no such node: node9/ });
  const none = { ...keys, peers: { ...keys.peers, keysWith: () => ({ opening: [], sealing: [] }) } };
  t.throws((await asked(0, "node2", none)).give, {
    message: "there are no keys with node 'node2': TCP 4789 at 192.0.2.12: nothing listens there",
  });
  const unable = { whyNot: "cannot listen on TCP 4789", peers: undefined };
  t.throws((await asked(0, "node2", unable)).give, { message: /no keys with node 'node2': cannot listen on TCP 4789/ });
});
