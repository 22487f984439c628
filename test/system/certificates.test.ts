// The cluster's CA is changed on a real cluster: nothing that runs notices, and what was printed before is still good.
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parse, stringify } from "yaml";
import { publicKeyDigest, signerOf } from "../../src/trust/certificates.ts";
import { parseToken } from "../../src/trust/token.ts";
import { tryRun, waitFor } from "./command.ts";
import { identityOf } from "./impostor.ts";
import type { LabNode } from "./lab.ts";
import { addressOf, namespaceOf, runningTasks, untilRunning } from "./listings.ts";
import { program } from "./program.ts";
import { systemTest, useLab } from "./system-test.ts";

/** The first leads, the second is a standby; the last one is in no cluster. */
const lab = useLab({ prefix: "crt", nodes: 4, managers: 2, waiting: 1 }, async ({ nodes: [node1] }) => {
  await node1!.ctl("network", "create", "web");
  await node1!.ctl(
    ...["service", "create", "--name", "echo", "--replicas", "3", "--network", "web"],
    ...["--", ...program("echo-server", 7)],
  );
});

/** How many sessions the node's agent has begun. */
function sessionsOf(node: LabNode): number {
  return readFileSync(node.logPath, "utf8").split("has a session with the leader").length - 1;
}

systemTest("`ca rotate` changes the CA while everything runs, and printed join commands stay good", async (t) => {
  const [node1, node2, node3, node4] = lab().nodes as [LabNode, LabNode, LabNode, LabNode];
  const members = [node1, node2, node3];
  await untilRunning(node1, "echo", 3);
  const token = await lab().token("worker");
  const { digest } = parseToken(token);
  const context = join(lab().directory, "alice.yaml");
  writeFileSync(context, await node1.ctl("user", "add", "alice"));
  const asAlice = (from: LabNode) => from.shell(`overlayctl --context ${context} network ls`);
  t.is((await asAlice(node4)).status, 0);
  const before = members.map(sessionsOf);

  let isOver = false;
  const asked = { written: 0, answered: 0, failures: [] as string[] };
  const write = async (): Promise<void> => {
    while (!isOver) {
      const { status, stderr } = await node1.shell(`overlayctl network create during-${asked.written++}`);
      if (status !== 0) asked.failures.push(stderr);
    }
  };
  const ask = async (): Promise<void> => {
    while (!isOver) {
      const { status, stdout, stderr } = await node2.container("web", program("ask", "tcp", "echo", 7, 3));
      if (status === 0) asked.answered++;
      else asked.failures.push(`${stdout}${stderr}`);
    }
  };
  const load = [write(), ask()];
  const began = performance.now();
  const rotated = await node1.shell("overlayctl ca rotate");
  const tookMs = Math.round(performance.now() - began);
  isOver = true;
  await Promise.all(load);
  t.is(rotated.status, 0, rotated.stderr);
  t.regex(rotated.stdout, /has a new certificate authority: [a-z0-9]{50}/);
  t.deepEqual(asked.failures, []);
  t.log(`${tookMs} ms; ${asked.written} writes and ${asked.answered} requests meanwhile`);
  t.true(asked.written > 0 && asked.answered > 0);
  t.deepEqual(members.map(sessionsOf), before, "no session was begun anew");

  const signer = parseToken(await lab().token("worker")).digest;
  t.not(signer, digest);
  for (const node of members) {
    const trustsNewAlone = async () => {
      const { bundle, certificate } = await identityOf(node);
      return bundle.length === 1 && publicKeyDigest(bundle[0]!) === signer && signerOf(certificate, bundle) === signer;
    };
    await waitFor(trustsNewAlone, { what: `${node.name} to trust the new CA alone` });
  }

  const alice = await asAlice(node4);
  t.is(alice.status, 1);
  t.regex(alice.stderr, /'alice' is not signed by this cluster's CA/);
  const joined = await node4.shell(`overlayctl join ${node1.address}:2377 --token ${token}`);
  t.is(joined.status, 0, joined.stderr);
  await node1.ctl("service", "scale", "echo=4");
  await untilRunning(node1, "echo", 4);
  await tryRun(["rm", "-f", context]);
});

systemTest("a node that was off while the CA changed finds the leader again, and ends the change", async (t) => {
  const [node1, node2, node3] = lab().nodes as [LabNode, LabNode, LabNode];
  const { bundle: before } = await identityOf(node3);
  await node3.stopAgent();
  const rotating = node1.shell("overlayctl ca rotate --json");
  const isNew = async (node: LabNode) => {
    const { certificate, bundle } = await identityOf(node);
    const newest = bundle.at(-1)!;
    return newest !== before[0] && signerOf(certificate, bundle) === publicKeyDigest(newest);
  };
  await waitFor(async () => (await isNew(node1)) && (await isNew(node2)), { what: "the nodes that run to renew" });
  t.is((await identityOf(node1)).bundle.length, 2);
  await node3.startAgent();
  await waitFor(() => isNew(node3), { what: "the node that was off to renew" });
  await waitFor(async () => (await identityOf(node3)).bundle.length === 1, { what: "the change to end" });
  t.is((await rotating).status, 0);
});

systemTest(
  "a manager's keys move under a named passphrase; with a wrong one it leads nothing, says so, and its tasks go on",
  async (t) => {
    const [node1, node2, node3] = lab().nodes as [LabNode, LabNode, LabNode];
    const beside = join(node1.directory, "data", "identity", "passphrase");
    const file = join(lab().directory, "passphrase");
    const settings = parse(readFileSync(node1.configPath, "utf8")) as { cluster?: object };
    const restartWith = async (passphrase: string): Promise<void> => {
      await node1.stopAgent();
      writeFileSync(file, `${passphrase}\n`);
      const cluster = { ...settings.cluster, passphrase: { file } };
      writeFileSync(node1.configPath, stringify({ ...settings, cluster }));
      await node1.startAgent();
    };
    const leads = () => node1.shell("overlayctl network create again").then(({ status }) => status === 0);

    const tasks = await runningTasks(node1, "echo");
    const taskOf = ({ name }: LabNode) => tasks.find(({ node }) => node === name)!;
    const [own, target] = [taskOf(node2), taskOf(node3)];
    t.true(existsSync(beside));
    await restartWith("correct horse battery staple");
    await waitFor(leads, { what: "the manager to lead" });
    t.false(existsSync(beside));
    await node1.ctl("network", "rm", "again");

    await restartWith("another");
    const refused = await node1.shell("overlayctl network create again");
    t.is(refused.status, 1);
    t.regex(`${refused.stderr}${node1.logTail(50)}`, /passphrase is wrong/);
    const ask = program("ask", "tcp", addressOf(target), 7, 3);
    t.is((await node2.tryExec(["ip", "netns", "exec", namespaceOf(own), ...ask])).status, 0);

    await restartWith("correct horse battery staple");
    await waitFor(leads, { what: "the manager to lead again" });
  },
);
