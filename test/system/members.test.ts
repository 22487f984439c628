// Who is of a cluster and who is no longer: a worker among its containers, a node whose certificate ended while it was off,
// a node that is removed.
import type { EndpointView, PeerView } from "../../src/api/schema.ts";
import { createRequest, issue } from "../../src/trust/authority.ts";
import { IN_VAIN_MS, run, TRY_MS, tryRun, waitFor } from "./command.ts";
import { ask, filesOf, identityOf, keysOf } from "./impostor.ts";
import type { LabNode } from "./lab.ts";
import { addressOf, namespaceOf, runningTasks, untilRunning, vipOf } from "./listings.ts";
import { program } from "./program.ts";
import { systemTest, useLab } from "./system-test.ts";
import { undoAfterAll } from "./undo.ts";

const PREFIX = "mem";
const NAMESPACE = `${PREFIX}-outside-it`;
const HUNDRED_DAYS_MS = 100 * 86_400_000;

const lab = useLab({ prefix: PREFIX, nodes: 3 }, async ({ nodes: [node1] }) => {
  await node1!.ctl("network", "create", "web");
  await node1!.ctl(
    ...["service", "create", "--name", "echo", "--replicas", "3", "--network", "web"],
    ...["--", ...program("echo-server", 7)],
  );
});
undoAfterAll(() => tryRun(["ip", "netns", "del", NAMESPACE]));

systemTest("on a worker that may not write, `run`, `attach` and `detach` go on working", async (t) => {
  const [, node2] = lab().nodes;
  t.not((await node2!.shell("overlayctl network create own")).status, 0);
  t.is((await node2!.container("web", program("ask", "tcp", "echo", 7, 3))).status, 0);
  await tryRun(["ip", "netns", "del", NAMESPACE]);
  await run(["ip", "netns", "add", NAMESPACE]);
  const address = (
    await node2!.ctl("attach", NAMESPACE, "--network", "web", "--name", "db", "--alias", "store")
  ).trim();
  const vip = await vipOf(node2!, "echo");
  const inside = (...argv: string[]) => tryRun(["ip", "netns", "exec", NAMESPACE, ...argv]);
  await waitFor(async () => (await inside(...program("ask", "tcp", vip!, 7, 1, TRY_MS))).status === 0, {
    what: "the namespace to reach the service",
  });
  const own = (await node2!.ctlJson<EndpointView[]>("endpoint", "ls")).find((one) => one.address === address);
  t.is(own?.node, node2!.name);
  await node2!.ctl("detach", NAMESPACE);
  await waitFor(
    async () => !(await node2!.ctlJson<EndpointView[]>("endpoint", "ls")).some((one) => one.address === address),
    { what: "the address to be free" },
  );
});

/** Puts a certificate in the place of the node's own that was issued a hundred days ago. Its agent is stopped. */
async function expire(node: LabNode, manager: LabNode): Promise<void> {
  const { key, clusterId, nodeId, name } = await identityOf(node);
  const subject = { kind: "node", clusterId, id: nodeId, name, role: "worker" } as const;
  const { nodes: authority } = await keysOf(manager);
  const request = await createRequest(key, name);
  const certificate = await issue(authority, { request, subject, now: Date.now() - HUNDRED_DAYS_MS });
  await filesOf(node).writeCertificates({ certificate });
}

systemTest("a worker whose certificate expired while it was off joins again, with its id and its tasks", async (t) => {
  const [node1, node2] = lab().nodes;
  const { nodeId } = await identityOf(node2!);
  const own = (await untilRunning(node1!, "echo", 3)).find(({ node }) => node === node2!.name)!;
  await node2!.stopAgent();
  await expire(node2!, node1!);
  await node2!.startAgent();
  const problem = await waitFor(
    async () => {
      const { stderr } = await node2!.shell("overlayctl node ls");
      return /expired/.test(stderr) && stderr;
    },
    { what: "the node to say why it has no leader" },
  );
  t.regex(problem, /overlayctl join/);
  const joined = await node2!.shell(`overlayctl join ${node1!.address} --token ${await lab().token("worker")}`);
  t.is(joined.status, 0, joined.stderr);
  t.is((await identityOf(node2!)).nodeId, nodeId);
  const again = (await untilRunning(node1!, "echo", 3)).find(({ node }) => node === node2!.name)!;
  t.like(again, { id: own.id, restarts: 0, addresses: own.addresses });
});

systemTest(
  "a node that is removed is of the cluster no more: its session, its certificate, its place in the data path",
  async (t) => {
    const [node1, node2, node3] = lab().nodes;
    const shown = await identityOf(node3!);
    const victim = (await runningTasks(node1!, "echo")).find(({ node }) => node === node3!.name)!;
    const removed = await node1!.shell(`overlayctl node rm --force ${node3!.name}`);
    t.is(removed.status, 0, removed.stderr);
    const began = performance.now();
    const isGone = async () =>
      !(await node2!.ctlJson<PeerView[]>("peers")).some(({ name }) => name === node3!.name) &&
      !(await node1!.api.nodes()).some(({ name }) => name === node3!.name) &&
      !(await node3!.api.status()).connected;
    await waitFor(isGone, { what: "the node to be gone everywhere" });
    t.log(`gone after ${Math.round(performance.now() - began)} ms`);
    const body = { type: "network.create", name: "stolen" };
    const answer = await ask(node3!, { manager: node1!, path: "/v1/commands", body, shown });
    t.is(answer.status, 401, answer.message);
    t.regex(answer.message, /removed|revoked/);
    const { stderr } = await node3!.shell("overlayctl node ls");
    t.regex(stderr, /removed/);
    // Its containers send to the others no more, and are answered by nobody.
    const target = addressOf((await runningTasks(node1!, "echo")).find(({ node }) => node === node2!.name)!);
    const asked = await node3!.tryExec([
      "ip",
      "netns",
      "exec",
      namespaceOf(victim),
      ...program("ask", "tcp", target, 7, 1, IN_VAIN_MS),
    ]);
    t.not(asked.status, 0);
    // A machine that is installed anew takes its place, at its address.
    t.is((await node3!.shell("overlayctl leave --force")).status, 0);
    await node3!.joinCluster(`${node1!.address}:2377`, await lab().token("worker"));
    t.not((await identityOf(node3!)).nodeId, shown.nodeId);
    await untilRunning(node1!, "echo", 3);
    t.is((await node3!.container("web", program("ask", "tcp", "echo", 7, 6))).status, 0);
  },
);
