// Registry credentials on a node: in memory, for the services that it has tasks of, and in no file of its data directory.
import { readdir, readFile, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import test, { type ExecutionContext } from "ava";
import type { Change, Service } from "../../src/cluster/schema.ts";
import { emptyState } from "../../src/cluster/state.ts";
import { createLog, silentLog } from "../../src/lib/log.ts";
import { SecretFiles } from "../../src/session/secret-files.ts";
import { Session } from "../../src/session/session.ts";
import { nodeRow, put, serviceRow } from "../api/fake-backend.ts";
import { CLUSTER, changes, opening, SCRIPTED_NODE, ScriptedLeader, snapshotOf } from "../fakes/scripted-leader.ts";
import { VirtualClock } from "../fakes/virtual-clock.ts";
import { identityOf } from "../leader/fake-node.ts";
import { waitFor } from "../system/command.ts";
import { temporaryDirectory } from "../temporary.ts";

const SECRET = "dXNlcjpwYXNzd29yZA";
const docker = { ...serviceRow("app").workload, runtime: "docker", image: "app:1" };
const withAuth = (auth: object) =>
  serviceRow("app", { workload: { ...docker, ...auth } as unknown as Service["workload"] });
const WHOLE = withAuth({ registryAuth: SECRET });
const WITHHELD = withAuth({ registryAuth: null, isAuthWithheld: true });

function authOf(session: Session): unknown {
  const { registryAuth, isAuthWithheld } = session.live.services.get(WHOLE.id)!.workload as Record<string, unknown>;
  return isAuthWithheld === true ? "withheld" : registryAuth;
}

/** A machine whose agent may start again: `memory` is lost when the machine does. */
async function machine(t: ExecutionContext) {
  const disk = temporaryDirectory("node");
  const memory = temporaryDirectory("test", "/dev/shm");
  t.teardown(() => Promise.all([disk, memory].map((path) => rm(path, { recursive: true, force: true }))));
  const secrets = join(memory, "secrets");
  const clock = new VirtualClock();
  const start = async (leader = new ScriptedLeader(["end"]), managers = ["192.0.2.11:2377"]) => {
    const session = new Session({
      ...{ identity: identityOf(1), managers, clock, log: silentLog },
      ...{ snapshotPath: join(disk, "snapshot"), secrets: new SecretFiles(secrets, silentLog) },
      transport: leader.transport,
    });
    await session.start();
    await clock.advance(0);
    return session;
  };
  const onDisk = async () => {
    const names = await readdir(disk);
    return (await Promise.all(names.map((name) => readFile(join(disk, name), "utf8")))).join();
  };
  return { secrets, start, onDisk, clock };
}

function leaderWith(...rows: Change[]): ScriptedLeader {
  const state = emptyState();
  state.cluster = CLUSTER;
  state.apply([put.node(nodeRow("node1", { id: SCRIPTED_NODE })), ...rows], 4);
  return new ScriptedLeader([opening(4), ...snapshotOf(state)]);
}

test("credentials outlive the agent, but not the machine's start, and are on no disk", async (t) => {
  const { secrets, start, onDisk } = await machine(t);
  const session = await start(leaderWith(put.service(WHOLE)));
  t.is(authOf(session), SECRET);
  await session.stop();
  const text = await onDisk();
  t.true(text.includes("app:1"));
  t.false(text.includes(SECRET));
  t.deepEqual(await readdir(secrets), [WHOLE.id]);
  t.is((await stat(secrets)).mode & 0o777, 0o700);
  t.is((await stat(join(secrets, WHOLE.id))).mode & 0o777, 0o600);
  const again = await start(undefined, []);
  t.is(authOf(again), SECRET);
  await again.stop();
  await rm(secrets, { recursive: true });
  const rebooted = await start(undefined, []);
  t.is(authOf(rebooted), "withheld");
  await rebooted.stop();
  const back = await start(leaderWith(put.service(WHOLE)));
  t.is(authOf(back), SECRET);
  await back.stop();
  t.deepEqual(await readdir(secrets), [WHOLE.id]);
  t.false((await onDisk()).includes(SECRET));
});

test("credentials go when the node may have them no more: by a change, and when it was away", async (t) => {
  const { secrets, start, onDisk } = await machine(t);
  const leader = leaderWith();
  const session = await start(leader);
  leader.send(changes(4, 5, put.service(WHOLE)));
  await waitFor(async () => (await readdir(secrets).catch(() => [])).length === 1, { what: "the credentials" });
  leader.send(changes(5, 6, put.service(WITHHELD)));
  await waitFor(async () => (await readdir(secrets)).length === 0, { what: "the credentials to go" });
  leader.send(changes(6, 7, put.service(WHOLE)));
  await waitFor(async () => (await readdir(secrets)).length === 1, { what: "the credentials" });
  await session.stop();
  t.false((await onDisk()).includes(SECRET));
  const state = emptyState();
  state.cluster = CLUSTER;
  state.apply([put.node(nodeRow("node1", { id: SCRIPTED_NODE }))], 9);
  const later = await start(new ScriptedLeader([opening(9), ...snapshotOf(state)]));
  await waitFor(async () => (await readdir(secrets)).length === 0, { what: "the credentials to go" });
  await later.stop();
});

test("where there is no memory for them they are kept in the process alone, and the log says so", async (t) => {
  const directory = temporaryDirectory("disk", join(process.cwd(), "node_modules"));
  t.teardown(() => rm(directory, { recursive: true }));
  const logged: string[] = [];
  const secrets = new SecretFiles(
    join(directory, "secrets"),
    createLog("warn", { write: (line: string) => logged.push(line) }),
  );
  secrets.changed([put.service(WHOLE)]);
  await waitFor(() => logged.length > 0, { what: "the warning" });
  t.regex(logged[0]!, /a tmpfs is needed there.*registry credentials are not kept over a restart of the agent/);
  t.deepEqual(await readdir(join(directory, "secrets")), []);
});
