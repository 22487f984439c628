// The cluster's CAs are changed on a real cluster: nothing that runs notices, and what was printed before is still good.
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { ExecutionContext } from "ava";
import { parse, stringify } from "yaml";
import type { AuthorityView } from "../../src/api/membership-schema.ts";
import type { NodeView } from "../../src/api/schema.ts";
import { certificatesIn, publicKeyDigest, signerOf } from "../../src/trust/certificates.ts";
import { parseToken } from "../../src/trust/token.ts";
import { curlBriefly, type Finished, tryRun, waitFor } from "./command.ts";
import { ask, identityOf } from "./impostor.ts";
import type { LabNode } from "./lab.ts";
import { addressOf, namespaceOf, runningTasks, untilRunning } from "./listings.ts";
import { hasNetworks, statusOf, untilWhole } from "./managers.ts";
import { program } from "./program.ts";
import { systemTest, useLab } from "./system-test.ts";

/** Three managers on etcd; the last node is in no cluster. */
const lab = useLab({ prefix: "crt", nodes: 4, managers: 3, waiting: 1 }, async ({ nodes: [node1, ...others] }) => {
  await node1!.ctl("network", "create", "web");
  await node1!.ctl(
    ...["service", "create", "--name", "echo", "--replicas", "3", "--network", "web"],
    ...["--", ...program("echo-server", 7)],
  );
  await untilWhole([node1!, ...others.slice(0, 2)]);
});

/** How many sessions the node's agent has begun. */
function sessionsOf(node: LabNode): number {
  return readFileSync(node.logPath, "utf8").split("has a session with the leader").length - 1;
}

/** The digest of the CA that signed the certificate of the manager's etcd; that alone is trusted. */
function storeSignerOf(node: LabNode): string | undefined {
  const [bundle, certificate] = ["ca.crt", "member.crt"].map((name) => {
    return readFileSync(join(node.directory, "data", "etcd", name), "utf8");
  }) as [string, string];
  const trusted = certificatesIn(bundle);
  return trusted.length === 1 ? signerOf(certificate, trusted) : undefined;
}

/** Writers on the node, and requests from its task of `echo` to another node's, until `judge`. */
class Load {
  readonly #node: LabNode;
  readonly #written: string[] = [];
  readonly #failures: string[] = [];
  readonly #run: Promise<void>[];
  #answered = 0;
  #isOver = false;

  constructor(t: ExecutionContext, node: LabNode, prefix: string) {
    this.#node = node;
    t.teardown(() => this.#end());
    this.#run = [this.#write(prefix), this.#ask()];
  }

  async #write(prefix: string): Promise<void> {
    for (let count = 0; !this.#isOver; count++) {
      const name = `${prefix}-${count}`;
      const { status, stderr } = await this.#node.shell(`overlayctl network create ${name}`);
      if (status === 0) this.#written.push(name);
      // Only while another manager comes to lead.
      else if (!/no manager leads|no leader answers|leads no longer|not known/.test(stderr))
        this.#failures.push(stderr);
    }
  }

  async #ask(): Promise<void> {
    const tasks = await runningTasks(this.#node, "echo");
    const [own, other] = [true, false].map((is) => tasks.find(({ node }) => (node === this.#node.name) === is)!);
    const argv = ["ip", "netns", "exec", namespaceOf(own!), ...program("ask", "tcp", addressOf(other!), 7, 3)];
    while (!this.#isOver) {
      const { status, stdout, stderr } = await this.#node.tryExec(argv);
      if (status === 0) this.#answered++;
      else this.#failures.push(`${stdout}${stderr}`);
    }
  }

  async #end(): Promise<void> {
    this.#isOver = true;
    await Promise.all(this.#run);
  }

  /** No request failed, and each write that was acknowledged is there. */
  async judge(t: ExecutionContext): Promise<void> {
    await this.#end();
    t.deepEqual(this.#failures, []);
    t.true(this.#written.length > 0 && this.#answered > 0);
    await hasNetworks(t, this.#node, this.#written);
    t.log(`${this.#written.length} writes and ${this.#answered} requests meanwhile`);
  }
}

systemTest("`ca rotate` changes both CAs while everything runs, and printed join commands stay good", async (t) => {
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
  const storeBefore = storeSignerOf(node1);

  const load = new Load(t, node2, "during");
  const nodes = await node1.shell("overlayctl ca rotate nodes");
  t.is(nodes.status, 0, nodes.stderr);
  t.regex(nodes.stdout, /^The cluster has a new certificate authority: [a-z0-9]{50}\n$/);
  t.deepEqual(members.map(sessionsOf), before, "no session was begun anew");
  const signer = parseToken(await lab().token("worker")).digest;
  t.not(signer, digest);

  const rotated = await node2.ctlJson<AuthorityView[]>("ca", "rotate");
  await load.judge(t);
  t.deepEqual(
    rotated.map(({ authority, waitsFor }) => [authority, waitsFor]),
    [
      ["nodes", []],
      ["store", []],
    ],
  );
  const [newest, store] = rotated.map((view) => view.signer);
  for (const node of members) {
    t.is(storeSignerOf(node), store);
    const trustsNewAlone = async () => {
      const { bundle, certificate } = await identityOf(node);
      return bundle.length === 1 && publicKeyDigest(bundle[0]!) === newest && signerOf(certificate, bundle) === newest;
    };
    await waitFor(trustsNewAlone, { what: `${node.name} to trust the new CA alone` });
  }
  t.not(store, storeBefore);
  t.deepEqual((await untilWhole(members)).warnings, []);

  const alice = await asAlice(node4);
  t.is(alice.status, 1);
  t.regex(alice.stderr, /'alice' is not signed by this cluster's CA/);
  const joined = await node4.shell(`overlayctl join ${node1.address}:2377 --token ${token}`);
  t.is(joined.status, 0, joined.stderr);
  await node1.ctl("service", "scale", "echo=4");
  await untilRunning(node1, "echo", 4);
  await tryRun(["rm", "-f", context]);
});

systemTest(
  "a change of the nodes' CA whose leader is killed goes on under the next, and waits for a node that is off",
  async (t) => {
    const nodes = lab().nodes as [LabNode, LabNode, LabNode, LabNode];
    const [node1, node2, node3, worker] = nodes;
    const managers = [node1, node2, node3];
    const { leader: name } = await untilWhole(managers);
    const leader = managers.find((node) => node.name === name)!;
    const others = managers.filter((node) => node !== leader);
    const old = await identityOf(worker);
    const isNew = async (node: LabNode) => {
      const { certificate, bundle } = await identityOf(node);
      const newest = bundle.at(-1)!;
      return newest !== old.bundle[0] && signerOf(certificate, bundle) === publicKeyDigest(newest);
    };
    await worker.stopAgent();
    const rotating = leader.shell("overlayctl ca rotate nodes");
    await waitFor(async () => (await identityOf(leader)).bundle.length === 2, { what: "the change to begin" });
    await leader.killAgent();
    t.not((await rotating).status, 0);

    await waitFor(async () => (await isNew(others[0]!)) && (await isNew(others[1]!)), { what: "the others to renew" });
    t.is((await identityOf(others[0]!)).bundle.length, 2);
    const isSaid = async () =>
      (await statusOf(others[0]!)).warnings.some((warning) =>
        /2 nodes have no certificate of the new one: /.test(warning),
      );
    await waitFor(isSaid, { what: "the status to say for which nodes the change waits" });
    await leader.startAgent();
    await worker.startAgent();
    for (const node of nodes) {
      const isDone = async () => (await isNew(node)) && (await identityOf(node)).bundle.length === 1;
      await waitFor(isDone, { what: `${node.name} to trust the new CA alone` });
    }
    const refused = await ask(worker, { manager: others[0]!, path: "/v1/leader", shown: old });
    t.is(refused.status, 403);
    t.regex(refused.message, /is not signed by this cluster's CA/);
    await untilAllReady(node1, nodes.length);
    await untilRunning(node1, "echo", 4);
  },
);

systemTest(
  "a change of the store's CA does not begin while a manager is not well; one whose leader is killed waits for it and goes on",
  async (t) => {
    const nodes = lab().nodes as [LabNode, LabNode, LabNode, LabNode];
    const managers = nodes.slice(0, 3);
    const { leader: name } = await untilWhole(managers);
    const leader = managers.find((node) => node.name === name)!;
    const others = managers.filter((node) => node !== leader);
    const [first, second] = others as [LabNode, LabNode];
    await second.stopAgent();
    const refused = await leader.shell("overlayctl ca rotate");
    t.is(refused.status, 1);
    t.regex(
      refused.stderr,
      new RegExp(`etcd of every manager is well, and not so is that of ${second.name}: .*ca rotate nodes`),
    );
    await second.startAgent();
    await untilWhole(managers);

    const before = managers.map(storeSignerOf);
    const old = await storeCredentialsOf(first);
    const rotating = leader.shell("overlayctl ca rotate store");
    await waitFor(async () => (await statusOf(first)).warnings.some((warning) => CHANGED.test(warning)), {
      what: "the change to begin",
    });
    await leader.killAgent();
    t.not((await rotating).status, 0);
    const waits = async () => (await statusOf(first)).warnings.find((warning) => WAITS.test(warning));
    t.log(await waitFor(waits, { what: "the next leader to wait for the manager that is down" }));

    const load = new Load(t, first, "store");
    await leader.startAgent();
    const isDone = () => managers.every((node, i) => ![undefined, before[i]].includes(storeSignerOf(node)));
    await waitFor(isDone, { what: "every manager's etcd to trust the new CA alone" });
    await load.judge(t);
    t.is(new Set(managers.map(storeSignerOf)).size, 1);
    await waitFor(async () => (await untilWhole(managers)).warnings.length === 0, { what: "nothing to be left" });
    const answer = await askStore(first, old);
    t.not(answer.status, 0, "the old CA is refused");
    t.is((await askStore(first, await storeCredentialsOf(first))).status, 0);
    await untilAllReady(leader, nodes.length);
  },
);

const CHANGED = /CA of the managers' store is being changed/;
const WAITS =
  /is to be started again with other CAs, and waits for that of|managers' store is being changed: .*do not trust/;

interface StoreCredentials {
  certificate: string;
  key: string;
}

async function storeCredentialsOf(node: LabNode): Promise<StoreCredentials> {
  const read = (name: string) => readFileSync(join(node.directory, "data", "etcd", name), "utf8");
  return { certificate: read("member.crt"), key: read("member.key") };
}

/** Asks the manager's etcd as who has these. */
function askStore(node: LabNode, { certificate, key }: StoreCredentials): Promise<Finished> {
  const place = (name: string) => join(lab().directory, name);
  writeFileSync(place("store.crt"), certificate);
  writeFileSync(place("store.key"), key);
  return node.tryExec(
    curlBriefly(
      "-k",
      "--show-error",
      "--cert",
      place("store.crt"),
      "--key",
      place("store.key"),
      "https://127.0.0.1:2378/version",
    ),
  );
}

async function untilAllReady(node: LabNode, count: number): Promise<void> {
  const ready = async () =>
    (await node.ctlJson<NodeView[]>("node", "ls")).filter(({ state }) => state === "ready").length;
  await waitFor(async () => (await ready()) === count, { what: "all nodes to have a session" });
}

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
    const managers = [node1, node2, node3];
    const tasks = await runningTasks(node1, "echo");
    const taskOf = ({ name }: LabNode) => tasks.find(({ node }) => node === name)!;
    const [own, target] = [taskOf(node2), taskOf(node3)];
    t.true(existsSync(beside));
    await restartWith("correct horse battery staple");
    await untilWhole(managers);
    t.false(existsSync(beside));

    await restartWith("another");
    t.regex(node1.logTail(50), /passphrase is wrong.*does not lead, and runs from its snapshot/);
    const ownStatus = await node1.shell("overlayctl cluster status");
    t.is(ownStatus.status, 1);
    t.regex(ownStatus.stderr, /passphrase is wrong/);
    const ask = program("ask", "tcp", addressOf(target), 7, 3);
    t.is((await node2.tryExec(["ip", "netns", "exec", namespaceOf(own), ...ask])).status, 0);

    await restartWith("correct horse battery staple");
    await untilWhole(managers);
  },
);
