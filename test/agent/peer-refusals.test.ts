// A manager that was demoted or removed is none for a node, whatever its certificate says.
import test from "ava";
import { PeerRefusals } from "../../src/agent/peer-refusals.ts";
import type { Node } from "../../src/cluster/schema.ts";
import { emptyState } from "../../src/cluster/state.ts";
import { clientTls } from "../../src/trust/tls.ts";
import { id, nodeRow, put } from "../api/fake-backend.ts";
import { credentialsOf, DAY_MS, node, nodesAuthority } from "../trust/cluster.ts";
import { get, serve } from "../trust/tls-server.ts";

const EXPIRES = 90 * DAY_MS;
const row = (role: Node["role"]) => nodeRow("node1", { role, certificateExpires: EXPIRES });
const subject = { ...node("node1", "manager"), id: id("node1") };

function known(role: Node["role"]) {
  const state = emptyState();
  state.apply([put.node(row(role))], 1);
  const refusals = new PeerRefusals(state);
  return { state, refusals };
}

test("a manager is taken for one, and so is one that this node has not heard of", (t) => {
  t.is(known("manager").refusals.whyNoManager(subject, EXPIRES), undefined);
  t.is(new PeerRefusals(emptyState()).whyNoManager(subject, EXPIRES), undefined);
});

test("one that was demoted is none until its certificate is newer than the row", (t) => {
  const { refusals } = known("worker");
  t.is(refusals.whyNoManager(subject, EXPIRES), "node 'node1' is a manager no longer");
  t.is(refusals.whyNoManager(subject, EXPIRES + DAY_MS), undefined);
});

test("one that was removed is refused in the TLS handshake, before anything is sent to it", async (t) => {
  const { state, refusals } = known("manager");
  const authority = await nodesAuthority();
  const server = await serve(await credentialsOf(authority, subject));
  t.teardown(() => server.close());
  const client = await credentialsOf(authority, node("node2"));
  const options = clientTls(client, {
    role: "manager",
    refusal: (peer, expires) => refusals.whyNoManager(peer, expires),
  });
  t.is(await get(server.port, options), "node2");
  const removed = state.apply([{ kind: "nodes", key: id("node1"), row: null }], 2);
  refusals.changed(removed);
  await t.throwsAsync(get(server.port, options), { message: /node 'node1' was removed from the cluster/ });
});
