// A snapshot that takes several times as long as the leader may be silent. OVERLAYD_SNAPSHOT_MB=200 makes it as large as that,
// with the silence that is usual.
import { rm } from "node:fs/promises";
import { join } from "node:path";
import test from "ava";
import { systemClock } from "../../src/lib/clock.ts";
import { createLog, silentLog } from "../../src/lib/log.ts";
import { Session } from "../../src/session/session.ts";
import { readSnapshot } from "../../src/session/snapshot-file.ts";
import { SlowLink } from "../fakes/slow-link.ts";
import { identityOf } from "../leader/fake-node.ts";
import { SecureCluster } from "../leader/secure-cluster.ts";
import { DEADLINE_MS, waitFor } from "../system/command.ts";
import { temporaryDirectory } from "../temporary.ts";

const megabytes = Number(process.env.OVERLAYD_SNAPSHOT_MB ?? 4);
const livenessMs = megabytes > 50 ? 15_000 : 5000;
/** The link takes four such periods for the snapshot. */
const bytesPerSecond = (megabytes * 1e6) / ((4 * livenessMs) / 1000);

test("a large snapshot arrives over a slow link in one session, with the changes that were made meanwhile", async (t) => {
  t.timeout(DEADLINE_MS);
  const cluster = await SecureCluster.start({ settings: { livenessMs } });
  t.teardown(() => cluster.close());
  const { leader, manager } = cluster;
  const labels = Object.fromEntries(Array.from({ length: 250 }, (_, i) => [`label${i}`, "x".repeat(4000)]));
  for (let i = 0; i < megabytes; i++) {
    const workload = { runtime: "process" as const, command: ["true"] };
    await leader.execute({ type: "service.create", name: `s${i}`, workload, replicas: 0, labels });
  }
  const link = await SlowLink.to(manager.port, bytesPerSecond);
  t.teardown(() => link.close());
  const directory = temporaryDirectory("slow");
  const logged: string[] = [];
  const snapshotPath = join(directory, "snapshot");
  const session = new Session({
    identity: identityOf(1),
    managers: [link.address],
    snapshotPath,
    clock: systemClock,
    transport: manager.transport(await manager.credentialsNamed("node1")),
    log: createLog("info", { write: (line: string) => logged.push(line) }),
  });
  t.teardown(() => session.stop());
  const began = performance.now();
  await session.start();
  await waitFor(() => leader.state.nodes.size === 1, { what: "the node's session to begin" });
  const { revision } = await leader.execute({ type: "network.create", name: "meanwhile" });
  t.false(session.connected);
  await waitFor(() => [...session.live.networks.values()].some(({ name }) => name === "meanwhile"), {
    what: "the change after the snapshot",
  });
  const seconds = (performance.now() - began) / 1000;
  const rss = Math.round(process.memoryUsage().rss / 1e6);
  t.log(`${megabytes} MB in ${seconds.toFixed(1)} s, ${rss} MB of memory with the leader`);
  t.is(session.live.services.size, megabytes);
  t.true(session.live.revision >= revision);
  t.deepEqual(
    logged.filter((line) => line.includes("no session") || line.includes("is lost")),
    [],
  );
  await session.stop();
  t.is((await readSnapshot(snapshotPath, silentLog))!.state.services.size, megabytes);
  await leader.stop();
  await rm(directory, { recursive: true });
});
