// Connections of those who were removed are ended within 5 s, on the leader and on a standby: by a virtual clock.
import { once } from "node:events";
import { createServer } from "node:https";
import type { AddressInfo } from "node:net";
import { connect } from "node:tls";
import test, { type ExecutionContext } from "ava";
import { emptyState } from "../../src/cluster/state.ts";
import { endRevoked } from "../../src/leader/revoked.ts";
import { UserError } from "../../src/lib/errors.ts";
import { silentLog } from "../../src/lib/log.ts";
import type { Subject } from "../../src/trust/certificates.ts";
import { Credentials } from "../../src/trust/credentials.ts";
import { serverTls } from "../../src/trust/tls.ts";
import { id, nodeRow, put } from "../api/fake-backend.ts";
import { VirtualClock } from "../fakes/virtual-clock.ts";
import { waitFor } from "../system/command.ts";
import { CLUSTER, certificateOf, node, nodesAuthority, user } from "../trust/cluster.ts";

const WITHIN_MS = 5000;

async function serve(t: ExecutionContext, { leads }: { leads: boolean }) {
  const clock = new VirtualClock(Date.now());
  const authority = await nodesAuthority();
  const state = emptyState();
  state.cluster = { id: CLUSTER, epoch: 1 };
  const owner = { ...node("node2"), id: id("node2") };
  state.apply([put.node(nodeRow("node2", { certificateExpires: clock.now() + 1e9 }))], 1);
  const bundle = [authority.certificate];
  const own = new Credentials({ ...(await certificateOf(authority, node("node1", "manager"))), bundle });
  const server = createServer(serverTls(own));
  const calls = () => {
    if (!leads) throw new UserError(503, "this manager is a standby");
  };
  const end = endRevoked(server, { state: () => state, calls, clock, log: silentLog });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.teardown(() => {
    end();
    server.close();
  });
  /** An open connection with the subject's certificate. */
  const open = async (subject: Subject) => {
    const { certificate: cert, key } = await certificateOf(authority, subject);
    const accepted = once(server, "secureConnection");
    const { port } = server.address() as AddressInfo;
    const socket = connect({ host: "127.0.0.1", port, cert, key, rejectUnauthorized: false });
    t.teardown(() => socket.destroy());
    socket.on("error", () => {});
    await Promise.all([once(socket, "secureConnect"), accepted]);
    return socket;
  };
  return { clock, state, owner, open };
}

for (const leads of [true, false]) {
  test(`${leads ? "the leader" : "a standby"} ends the connections of a node that was removed within 5 s`, async (t) => {
    const { clock, state, owner, open } = await serve(t, { leads });
    const socket = await open(owner);
    await clock.advance(WITHIN_MS);
    t.false(socket.closed);
    state.apply([{ kind: "nodes", key: owner.id, row: null }], 2);
    await clock.advance(WITHIN_MS);
    t.true(await waitFor(() => socket.closed, { what: "the connection to end" }));
  });
}

test("the leader ends the connections of a user that was removed; a standby has no users to judge by", async (t) => {
  const leader = await serve(t, { leads: true });
  const socket = await leader.open(user("alice"));
  await leader.clock.advance(WITHIN_MS);
  t.true(await waitFor(() => socket.closed, { what: "the connection to end" }));
  const standby = await serve(t, { leads: false });
  const other = await standby.open(user("alice"));
  await standby.clock.advance(WITHIN_MS);
  t.false(other.closed);
});
