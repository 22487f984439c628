// Three managers on an etcd that they do not run (`cluster.etcd.endpoints`), under writers, readers and HTTP clients: certificates
// that etcd refuses, the leader killed, etcd gone and back.
import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parse, stringify } from "yaml";
import { issueStoreCertificate } from "../leader/store-certificates.ts";
import { TestEtcd } from "../leader/test-etcd.ts";
import { Clients, createWeb, insideWeb } from "./clients.ts";
import { waitFor } from "./command.ts";
import type { LabNode } from "./lab.ts";
import { statusOf } from "./managers.ts";
import { systemTest, useLab } from "./system-test.ts";
import { undoAfterAll } from "./undo.ts";

const MEMBERS = 3;

let etcd: TestEtcd | undefined;

/** Three managers, and a worker that has the service's tasks: it does not wait for an agent that is killed. */
const lab = useLab({ prefix: "ext", nodes: 4, managers: 3 }, createWeb, {
  beforeAgents: async ({ addHost, nodes, directory }) => {
    const { netns, address } = await addHost("etcd", 50);
    etcd = await TestEtcd.start({ members: MEMBERS, place: { netns, address } });
    const others = join(directory, "others");
    mkdirSync(others);
    await issueStoreCertificate(others, "member");
    for (const [i, node] of nodes.slice(0, 3).entries()) configure(node, i === 0 ? others : etcd.directory);
  },
});
undoAfterAll(() => etcd?.remove());

const managers = (): LabNode[] => lab().nodes.slice(0, 3);

/** Names the etcd in the manager's configuration, and the certificates of a directory. */
function configure(node: LabNode, certificates: string): void {
  const file = (name: string) => join(certificates, name);
  const settings = parse(readFileSync(node.configPath, "utf8")) as { cluster: object };
  const files = { ca: file("ca.crt"), certificate: file("member.crt"), key: file("member.key") };
  const cluster = { ...settings.cluster, etcd: { endpoints: etcd!.endpoints, ...files } };
  writeFileSync(node.configPath, stringify({ ...settings, cluster }));
}

async function restartWith(node: LabNode, certificates: string): Promise<void> {
  configure(node, certificates);
  await node.stopAgent();
  await node.startAgent();
}

/** Resolves with the leader, once all managers are on the external etcd. */
async function untilShared(): Promise<LabNode> {
  return waitFor(
    async () => {
      const all = await Promise.all(managers().map(statusOf));
      const { leader, managers: rows } = all[0]!;
      const isShared =
        all.every(({ store }) => store === "external etcd") && rows.every(({ problem }) => problem === null);
      return isShared && rows.length === 3 ? managers().find(({ name }) => name === leader) : undefined;
    },
    { what: "all managers to share the external etcd" },
  );
}

systemTest("an external etcd whose CA is another is refused in words, and the file leads on", async (t) => {
  const [node1] = managers() as [LabNode];
  const warning = await waitFor(
    async () => (await statusOf(node1)).warnings.find((one) => one.includes(etcd!.endpoints[0]!)),
    { what: "the status to say what etcd refuses" },
  );
  t.log(warning);
  t.regex(warning, /certificate/);
  t.is((await statusOf(node1)).store, "file");
  await node1.ctl("network", "create", "on-the-file");
});

systemTest(
  "an external etcd is shared by all managers, and when the leader is killed another one leads from it",
  async (t) => {
    const [node1] = managers() as [LabNode];
    const clients = await begin("killed", managers());
    await restartWith(node1, etcd!.directory);
    const leader = await untilShared();
    await clients.nextWrite();
    await leader.killAgent();
    t.log(`a write succeeded ${Math.round(await clients.nextWrite())} ms after the leader was killed`);
    await leader.startAgent();
    t.not((await untilShared()).name, leader.name);
    await clients.nextWrite();
    await clients.judge(t);
    t.deepEqual(clients.failedRequests, []);
    t.true((await node1.ctl("network", "ls")).includes(" on-the-file "));
  },
);

systemTest(
  "the external etcd is gone: writes are refused and say where it was looked for; when it is back, so are writes",
  async (t) => {
    const leader = await untilShared();
    const clients = await begin("gone", managers());
    await clients.nextWrite();
    for (let i = 0; i < MEMBERS; i++) await etcd!.kill(i);
    const refusal = await waitFor(
      async () => {
        const { status, stderr } = await leader.tryExec(["overlayctl", "network", "create", "refused"]);
        return status !== 0 && /cluster\.etcd\.endpoints/.test(stderr) ? stderr : undefined;
      },
      { what: "a write to be refused in words" },
    );
    t.regex(refusal, /the external etcd of cluster\.etcd\.endpoints does not answer/);
    await requestsGoOn(clients);
    for (let i = 0; i < MEMBERS; i++) etcd!.launch(i);
    t.log(`a write succeeded ${Math.round(await clients.nextWrite())} ms after etcd was started`);
    await untilShared();
    await clients.judge(t);
    t.deepEqual(clients.failedRequests, []);
  },
);

systemTest("a manager whose certificate the external etcd does not take says so, and the others lead", async (t) => {
  const leader = await untilShared();
  const other = managers().find((node) => node !== leader)!;
  const clients = await begin(
    "wrong",
    managers().filter((node) => node !== other),
  );
  const another = join(lab().directory, "another");
  mkdirSync(another);
  await issueStoreCertificate(another, "member");
  copyFileSync(join(etcd!.directory, "ca.crt"), join(another, "ca.crt")); // it accepts etcd, and etcd does not accept it
  await restartWith(other, another);
  const problem = await waitFor(
    async () => {
      const rows = (await statusOf(leader)).managers;
      return rows.find(({ node, problem: words }) => node === other.name && /certificate/.test(words ?? ""))?.problem;
    },
    { what: "the status to say what etcd refuses" },
  );
  t.regex(problem!, /do not accept each other's certificates.*look at that etcd, and at 'cluster.etcd'/s);
  await clients.nextWrite();
  await restartWith(other, etcd!.directory);
  await untilShared();
  await clients.judge(t, leader);
  t.deepEqual(clients.failedRequests, []);
});

async function begin(prefix: string, asked: readonly LabNode[]): Promise<Clients> {
  const worker = lab().nodes[3]!;
  return new Clients({ lab: lab(), prefix, managers: asked, doors: [worker], inside: await insideWeb(worker) });
}

/** Resolves after some more requests. */
async function requestsGoOn(clients: Clients): Promise<void> {
  const enough = clients.requests + 20;
  await waitFor(() => clients.requests >= enough, { what: "HTTP requests to be answered" });
}
