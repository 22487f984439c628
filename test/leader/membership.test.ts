// A node's way through the cluster over TLS: it joins, has its certificate renewed while its session goes on, comes back
// with its key, and is removed.
import test, { type ExecutionContext } from "ava";
import { PROTOCOL } from "../../src/cluster/features.ts";
import type { NodeIdentity, StreamMessage } from "../../src/cluster/protocol.ts";
import { createRequest } from "../../src/trust/authority.ts";
import { createKey, publicKeyDigest, subjectOf, validityOf } from "../../src/trust/certificates.ts";
import { Credentials } from "../../src/trust/credentials.ts";
import { waitFor } from "../system/command.ts";
import { identityOf } from "./fake-node.ts";
import { type Member, SecureCluster } from "./secure-cluster.ts";

async function started(t: ExecutionContext): Promise<SecureCluster> {
  const cluster = await SecureCluster.start();
  t.teardown(() => cluster.close());
  return cluster;
}

/** The node's session, with the lines that have come; `ended` once there are no more. */
function follow(cluster: SecureCluster, { credentials }: Pick<Member, "credentials">, identity: NodeIdentity) {
  const { manager } = cluster;
  const session = { lines: [] as StreamMessage[], ended: false };
  const read = async (): Promise<void> => {
    const request = { ...identity, protocol: PROTOCOL };
    const { signal } = new AbortController();
    const lines = manager.transport(credentials).open(manager.address, request, signal, () => {});
    for await (const line of lines) session.lines.push(line as StreamMessage);
  };
  const over = (): void => {
    session.ended = true;
  };
  read().then(over, over);
  return session;
}

test("a node that joins has all that it needs, and a row", async (t) => {
  const cluster = await started(t);
  const { leader, manager } = cluster;
  const { id, answer } = await cluster.join(identityOf(2));
  t.deepEqual(subjectOf(answer.certificate), {
    ...{ kind: "node", clusterId: leader.state.cluster!.id, id, name: "node2", role: "worker" },
  });
  t.like(answer, { cluster: leader.state.cluster, nodeId: id, role: "worker", managers: ["192.0.2.11:2377"] });
  t.deepEqual(answer.bundle, [manager.keys.nodes.certificate]);
  t.is(answer.keys, undefined, "a worker signs nothing");
  t.is(answer.settings.pool, "10.192.0.0/10");
  const row = leader.state.nodes.get(id)!;
  t.like(row, { name: "node2", role: "worker", state: "down" });
  t.true(Math.abs(row.certificateExpires! - validityOf(answer.certificate).expires) < 5000);
  const third = await cluster.join(identityOf(3), "manager");
  t.is(third.answer.role, "manager");
  t.deepEqual(third.answer.keys, manager.keys);
});

test("a node comes back with its key, and keeps its id and the role that it has by now", async (t) => {
  const cluster = await started(t);
  const key = createKey();
  const first = await cluster.join(identityOf(2), "worker", key);
  await cluster.leader.execute({ type: "node.promote", name: "node2" });
  const again = await cluster.join(identityOf(2), "worker", key);
  t.is(again.id, first.id);
  t.is(again.answer.role, "manager");
  t.is(subjectOf(again.answer.certificate).kind, "node");
});

test("a certificate is renewed while the session goes on, and each write leaves one line in the log", async (t) => {
  const cluster = await started(t);
  const { manager, leader, logged } = cluster;
  const key = createKey();
  const node = await cluster.join(identityOf(2), "worker", key);
  const session = follow(cluster, node, identityOf(2));
  await waitFor(() => session.lines.some(({ type }) => type === "snapshot-end"), { what: "the session" });
  await leader.renewed(node.id, { certificateExpires: Date.now() + 60_000 });
  const request = await createRequest(key, "node2");
  const { status, body } = await manager.ask(node.credentials, "POST", "/v1/renew", { request });
  t.is(status, 200);
  const { certificate, bundle } = body as { certificate: string; bundle: string[] };
  t.is(publicKeyDigest(certificate), publicKeyDigest(key));
  const expires = leader.state.nodes.get(node.id)!.certificateExpires!;
  t.true(Math.abs(expires - validityOf(certificate).expires) < 5000);
  const renewed = new Credentials({ certificate, key, bundle });
  const command = { type: "endpoint.create", node: node.id, network: "default", name: "db" } as const;
  t.is((await manager.ask(renewed, "POST", "/v1/commands", command)).status, 200);
  t.is((await manager.ask(renewed, "POST", "/v1/commands", { type: "network.remove", name: "x" })).status, 403);
  t.false(session.ended);
  await waitFor(() => session.lines.some(({ type }) => type === "changes"), { what: "changes on the same session" });
  const writes = logged.filter(({ msg }) => msg.startsWith("a write")).map(({ time: _, level: __, ...line }) => line);
  const who = { caller: "node node2", address: "127.0.0.1" };
  t.deepEqual(writes.slice(0, 3), [
    { ...who, command: "node.join", object: "node2", result: "done", msg: "a write was carried out" },
    { ...who, command: "node.renew", object: "node2", result: "done", msg: "a write was carried out" },
    { ...who, command: "endpoint.create", object: "db", result: "done", msg: "a write was carried out" },
  ]);
  t.like(writes[3], { ...who, command: "network.remove", object: "x", msg: "a write was refused" });
  t.regex(String(writes[3]!.result), /workers may not do/);
  t.is(writes.length, 4);
});

test("a node that is removed loses its session and its connections, and its address is not another's before all have heard", async (t) => {
  const cluster = await started(t);
  const { manager, leader } = cluster;
  const [node2, node3] = [await cluster.join(identityOf(2)), await cluster.join(identityOf(3))];
  const sessions = [follow(cluster, node2, identityOf(2)), follow(cluster, node3, identityOf(3))] as const;
  for (const { lines } of sessions) {
    await waitFor(() => lines.some(({ type }) => type === "snapshot-end"), { what: "the sessions" });
  }
  const { sessionId } = sessions[1].lines[0] as { sessionId: string };
  const apply = (applied: number) => leader.sessions.report(sessionId, { statuses: [], full: true, gone: [], applied });
  await apply(leader.state.revision);
  const transport = manager.transport(node2.credentials);
  await transport.leads(manager.address, new AbortController().signal); // a connection that stays open
  const { revision } = await leader.execute({ type: "node.remove", name: "node2", force: true });
  await waitFor(() => sessions[0].ended, { what: "the session of the removed node to end" });
  t.false(sessions[1].ended);
  // The connection that was open may be ended before the request is answered.
  const leads = () => transport.leads(manager.address, new AbortController().signal);
  const refusal = async () => (await t.throwsAsync(leads()))!.message.includes("is revoked");
  t.true(await waitFor(refusal, { what: "the refusal of the removed node" }));
  const again = await manager.ask(node2.credentials, "POST", "/v1/sessions", { ...identityOf(2), protocol: PROTOCOL });
  t.regex(again.body.error!, /^the certificate of node 'node2' is revoked/);
  // Another machine has the address by now. node3 still sends there what is for the removed node.
  let joined: Member | undefined;
  const joining = cluster.join({ ...identityOf(4), address: identityOf(2).address }).then((member) => {
    joined = member;
  });
  await leader.execute({ type: "network.create", name: "meanwhile" });
  t.is(joined, undefined);
  await apply(revision);
  await joining;
  t.is(leader.state.nodes.get(joined!.id)!.address, identityOf(2).address);
});

test("connections of a node whose certificate ends are ended", async (t) => {
  const cluster = await started(t);
  const node = await cluster.join(identityOf(2));
  const session = follow(cluster, node, identityOf(2));
  await waitFor(() => session.lines.some(({ type }) => type === "snapshot-end"), { what: "the session" });
  await cluster.leader.renewed(node.id, { certificateExpires: Date.now() - 1 });
  t.true(await waitFor(() => session.ended, { what: "the session to end" }));
});
