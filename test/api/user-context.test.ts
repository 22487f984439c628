// A user's file finds the cluster after its managers are others than on the day when it was made.
import { chmodSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import test, { type ExecutionContext } from "ava";
import { ApiClient } from "../../src/api/client.ts";
import { contextFile, keepManagers, readContextFile } from "../../src/api/context-file.ts";
import { openContext } from "../../src/api/open-context.ts";
import { addOperatorRoutes } from "../../src/api/operator-routes.ts";
import { systemClock } from "../../src/lib/clock.ts";
import { silentLog } from "../../src/lib/log.ts";
import { createRequest, issue } from "../../src/trust/authority.ts";
import { createKey } from "../../src/trust/certificates.ts";
import { managerKeys, SecureManager } from "../fakes/secure-manager.ts";
import { Cluster } from "../leader/cluster-fixture.ts";
import { temporaryDirectory } from "../temporary.ts";
import { FakeBackend, nodeRow, put } from "./fake-backend.ts";

const DAY_MS = 86_400_000;

/** Managers on loopback, each with a node's row in the state that they answer users from, and alice's file of the first one. */
async function started(t: ExecutionContext, count: number) {
  const { leader } = await Cluster.start(1);
  const keys = await managerKeys(leader.state.cluster!.id);
  const backend = new FakeBackend();
  const managers: SecureManager[] = [];
  for (let i = 1; i <= count; i++) {
    const operator = (app: Parameters<typeof addOperatorRoutes>[0]) => addOperatorRoutes(app, backend, silentLog);
    const manager = await SecureManager.start(leader, { clock: systemClock, keys, operator });
    managers.push(manager);
    const advertise = { address: "127.0.0.1", port: manager.port };
    backend.change(put.node(nodeRow(`node${i}`, { role: "manager", manager: true, advertise })));
  }
  const directory = temporaryDirectory("user");
  t.teardown(async () => {
    for (const manager of managers) await manager.close();
    rmSync(directory, { recursive: true });
  });
  const cluster = leader.state.cluster!.id;
  const { id } = await leader.execute({ type: "user.add", name: "alice", expires: Date.now() + DAY_MS });
  const key = createKey();
  const subject = { kind: "user", clusterId: cluster, id, name: "alice" } as const;
  const certificate = await issue(keys.nodes, { request: await createRequest(key, "alice"), subject, now: Date.now() });
  const path = join(directory, "alice.yaml");
  const bundle = [keys.nodes.certificate];
  const text = contextFile({ user: "alice", cluster, managers: [managers[0]!.address], bundle, certificate, key });
  writeFileSync(path, text, { mode: 0o600 });
  const warnings: string[] = [];
  /** Asks as alice, with the file as it is now. */
  const ask = () => new ApiClient(openContext(path, (text) => warnings.push(text))).nodes();
  return { backend, managers, directory, path, text, warnings, ask };
}

test("the file keeps the managers of now, and finds the cluster when those of its day are gone", async (t) => {
  const { managers, path, text, warnings, ask } = await started(t, 2);
  await ask();
  const { context } = readContextFile(path);
  t.deepEqual(context.managers, [managers[0]!.address], "what its owner has is kept");
  t.deepEqual(
    context.currentManagers,
    managers.map(({ address }) => address),
  );
  await managers[0]!.close();
  t.is((await ask()).length, 2);
  t.deepEqual(warnings, []);
  // All else is as it was.
  t.true(readFileSync(path, "utf8").startsWith(text.slice(0, text.indexOf("managers:"))));
  t.is(statSync(path).mode & 0o777, 0o600);
});

test("a file that names the managers of now is not written", async (t) => {
  const { path, text, ask } = await started(t, 1);
  await ask();
  t.is(readFileSync(path, "utf8"), text);
});

test("a file whose managers are all gone says which field to write", async (t) => {
  const { managers, ask } = await started(t, 1);
  await managers[0]!.close();
  await t.throwsAsync(ask(), {
    message:
      /no manager of the cluster answers \(127\.0\.0\.1:\d+: .*\); if the cluster has others by now, write one of them into the file's 'managers', or make a new file with 'overlayctl user add'/,
  });
});

test("managers that the owner wrote into the file are asked", async (t) => {
  const { managers, path, text, ask } = await started(t, 2);
  writeFileSync(path, text.replace(managers[0]!.address, managers[1]!.address));
  await managers[0]!.close();
  t.is((await ask()).length, 2);
});

test("a file that cannot be changed is used as it is, and what it lacks is said", async (t) => {
  const { managers, path, text, directory, warnings, ask } = await started(t, 2);
  // Also root cannot write a file in the place of a directory.
  mkdirSync(`${path}.${process.pid}.new`);
  writeFileSync(join(`${path}.${process.pid}.new`, "x"), "");
  t.is((await ask()).length, 2);
  t.is(readFileSync(path, "utf8"), text);
  t.is(warnings.length, 1);
  t.regex(warnings[0]!, /alice\.yaml lacks managers that the cluster has now, and cannot be changed \(.*\): write 127/);
  t.true(warnings[0]!.includes(managers[1]!.address));
  t.deepEqual(readdirSync(directory).length, 2);
});

test("the file's mode, its comments and a link to it stay", async (t) => {
  const { path, directory } = await started(t, 1);
  chmodSync(path, 0o640);
  writeFileSync(path, readFileSync(path, "utf8").replace("user: alice", "user: alice # in the office"));
  const link = join(directory, "link.yaml");
  symlinkSync(path, link);
  keepManagers(link, ["192.0.2.14:2377"]);
  t.is(readFileSync(link, "utf8"), readFileSync(path, "utf8"));
  t.regex(readFileSync(path, "utf8"), /user: alice # in the office\n/);
  t.is(statSync(path).mode & 0o777, 0o640);
  t.deepEqual(readContextFile(path).context.currentManagers, ["192.0.2.14:2377"]);
});
