// Nodes that lose their leader, over TLS: managers that are dead, stand by or fall silent.
import { rm } from "node:fs/promises";
import type { AddressInfo } from "node:net";
import { createServer, type Socket } from "node:net";
import { join } from "node:path";
import test, { type ExecutionContext } from "ava";
import { systemClock } from "../../src/lib/clock.ts";
import { MisdirectedError } from "../../src/lib/errors.ts";
import { silentLog } from "../../src/lib/log.ts";
import { LeaderCalls } from "../../src/session/leader-calls.ts";
import { Session } from "../../src/session/session.ts";
import { managerKeys, SecureManager } from "../fakes/secure-manager.ts";
import { identityOf } from "../leader/fake-node.ts";
import { SecureCluster } from "../leader/secure-cluster.ts";
import { waitFor } from "../system/command.ts";
import { temporaryDirectory } from "../temporary.ts";

async function startSession(
  t: ExecutionContext,
  { manager }: SecureCluster,
  managers: readonly string[],
): Promise<{ session: Session; calls: LeaderCalls }> {
  const directory = temporaryDirectory("failover");
  const transport = manager.transport(await manager.credentialsNamed("node1"));
  const session = new Session({
    identity: identityOf(1),
    managers,
    snapshotPath: join(directory, "snapshot"),
    clock: systemClock,
    log: silentLog,
    transport,
  });
  session.statusReports.complete();
  await session.start();
  t.teardown(async () => {
    await session.stop();
    await rm(directory, { recursive: true });
  });
  return { session, calls: new LeaderCalls({ session, transport, clock: systemClock }) };
}

/** A machine that takes connections and never says anything. */
async function silentMachine(t: ExecutionContext): Promise<string> {
  const sockets: Socket[] = [];
  const server = createServer((socket) => sockets.push(socket));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.teardown(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return `127.0.0.1:${(server.address() as AddressInfo).port}`;
}

test("a node finds its leader behind a machine that says nothing, and behind a standby that names it", async (t) => {
  const cluster = await SecureCluster.start();
  t.teardown(() => cluster.close());
  const standby = await SecureManager.start(cluster.leader, {
    clock: systemClock,
    keys: cluster.manager.keys,
    calls: () => {
      throw new MisdirectedError([cluster.manager.address]);
    },
  });
  t.teardown(() => standby.close());
  const { session, calls } = await startSession(t, cluster, [await silentMachine(t), standby.address]);
  await waitFor(() => session.connected, { what: "the session" });
  t.is(session.manager, cluster.manager.address);
  const { id } = await calls.execute({ type: "network.create", name: "web" });
  t.is(session.live.networks.get(id)!.name, "web");
});

test("a node goes from a manager that ends to another one, with its commands", async (t) => {
  const cluster = await SecureCluster.start();
  t.teardown(() => cluster.close());
  // Two faces of one leader: what matters is whom the node asks.
  const other = await SecureManager.start(cluster.leader, { clock: systemClock, keys: cluster.manager.keys });
  const { session, calls } = await startSession(t, cluster, [other.address, cluster.manager.address]);
  await waitFor(() => session.manager === other.address, { what: "the first session" });
  await other.close();
  await waitFor(() => session.manager === cluster.manager.address, { what: "the session with the other manager" });
  const { id } = await calls.execute({ type: "network.create", name: "web" });
  t.truthy(session.live.networks.get(id));
});

test("a manager that another authority certified is told from one of the cluster", async (t) => {
  const cluster = await SecureCluster.start();
  t.teardown(() => cluster.close());
  const stranger = await SecureManager.start(cluster.leader, {
    clock: systemClock,
    keys: await managerKeys(cluster.leader.state.cluster!.id),
  });
  t.teardown(() => stranger.close());
  const { session } = await startSession(t, cluster, [stranger.address]);
  await waitFor(() => session.problem !== undefined, { what: "the refusal" });
  t.is(session.problem, `${stranger.address}: its certificate is not signed by this cluster's CA`);
});
