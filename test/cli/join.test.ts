// init, join, user add and --context as a person types them: what is asked, what is printed, and what is refused.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import ava, { type ExecutionContext } from "ava";
import { parse } from "yaml";
import { serveApi } from "../../src/api/server.ts";
import { UserError } from "../../src/lib/errors.ts";
import { silentLog } from "../../src/lib/log.ts";
import { FakeBackend, FakeWaiting, id, nodeRow, put, served, servedWaiting } from "../api/fake-backend.ts";
import { temporaryDirectory } from "../temporary.ts";

// One after another: each starts a process, and all at once would starve them.
const test = ava.serial;

const DAY_MS = 86_400_000;
const MAIN = fileURLToPath(new URL("../../bin/overlayctl.js", import.meta.url));

interface Ended {
  status: number | null;
  out: string;
  err: string;
}

async function overlayctl(args: readonly string[], env: NodeJS.ProcessEnv, input = ""): Promise<Ended> {
  const child = spawn(process.execPath, [MAIN, ...args], { env: { ...process.env, ...env } });
  let [out, err] = ["", ""];
  child.stdout.on("data", (part) => {
    out += part;
  });
  child.stderr.on("data", (part) => {
    err += part;
  });
  child.stdin.end(input);
  const [status] = await once(child, "close");
  return { status, out, err };
}

/** An agent that waits to join, and runs its parts when it has answered. */
async function waiting(t: ExecutionContext): Promise<{ agent: FakeWaiting; socket: string }> {
  const socket = join(temporaryDirectory("cli"), "overlayd.sock");
  const agent = new FakeWaiting();
  const close = await servedWaiting(t, agent, socket);
  agent.whenAnswered = async () => {
    await close();
    const server = await serveApi(new FakeBackend([put.node(nodeRow("node1"))]), {
      socketPath: socket,
      log: silentLog,
    });
    t.teardown(() => server.close());
  };
  return { agent, socket };
}

test("init prints the command with which workers join, once the agent runs", async (t) => {
  const { agent, socket } = await waiting(t);
  const words =
    "init --advertise 203.0.113.5 --listen 0.0.0.0:9377 --pool 10.64.0.0/16 --domain corp --session-timeout 30s --worker-writes --encrypt";
  const { status, out, err } = await overlayctl(words.split(" "), { OVERLAYD_SOCKET: socket });
  t.deepEqual([status, err], [0, ""]);
  t.is(
    out,
    `Cluster initialized: current node (${id("node1")}) is now a manager.

To add a worker to this cluster, run the following command:

    overlayctl join 192.0.2.11:2377 --token ovl-1-worker

To add a manager to this cluster, run 'overlayctl join-token manager' and follow the instructions.
`,
  );
  t.deepEqual(agent.inits, [
    {
      advertise: { host: "203.0.113.5", port: 2377 },
      listen: { host: "0.0.0.0", port: 9377 },
      pool: "10.64.0.0/16",
      domain: "corp",
      livenessMs: 30_000,
      workerWrites: true,
      encrypt: true,
    },
  ]);
  const again = await overlayctl(["init"], { OVERLAYD_SOCKET: socket });
  t.deepEqual([again.status, again.out], [1, ""]);
  t.regex(
    again.err,
    /^overlayctl: there is a cluster here already: this node is a member of clusterx+; 'overlayctl leave'/,
  );
});

const wrongInits: [words: string, error: RegExp][] = [
  ["--pool 10.64.0.0/24", /^overlayctl: --pool: a pool is \/19 or larger/],
  ["--domain localhost", /^overlayctl: --domain: that domain has a meaning of its own/],
  ["--session-timeout 10ms", /^overlayctl: --session-timeout: at least 1s is needed/],
  ["--advertise manager.example", /^overlayctl: --advertise: 'manager\.example' is not an IPv4 address/],
  ["--advertise 0.0.0.0", /^overlayctl: --advertise: nodes cannot reach 0\.0\.0\.0/],
];
for (const [words, error] of wrongInits) {
  test(`init ${words} is refused, and the option named`, async (t) => {
    const { agent, socket } = await waiting(t);
    const { status, out, err } = await overlayctl(["init", ...words.split(" ")], { OVERLAYD_SOCKET: socket });
    t.deepEqual([status, out, agent.inits], [1, "", []]);
    t.regex(err, error);
  });
}

test("join says as what, once the agent runs", async (t) => {
  const { agent, socket } = await waiting(t);
  const { status, out, err } = await overlayctl(["join", "192.0.2.11", "--token", "T"], { OVERLAYD_SOCKET: socket });
  t.deepEqual([status, out, err], [0, "This node joined the cluster as a worker.\n", ""]);
  t.deepEqual(agent.joins, [{ manager: "192.0.2.11:2377", token: "T" }]);
});

test("join takes its token from a file or from standard input, and says what is missing", async (t) => {
  const { agent, socket } = await waiting(t);
  const env = { OVERLAYD_SOCKET: socket };
  agent.refusal = new UserError(403, "192.0.2.11:2377 refuses: the join token is not one of this cluster's");
  const file = join(temporaryDirectory("cli"), "token");
  const missing = await overlayctl(["join", "192.0.2.11", "--token-file", file], env);
  t.regex(missing.err, /^overlayctl: --token-file: cannot read it: ENOENT/);
  writeFileSync(file, "from-a-file\n");
  const refused = await overlayctl(["join", "192.0.2.11", "--token-file", file], env);
  t.is(refused.err, "overlayctl: 192.0.2.11:2377 refuses: the join token is not one of this cluster's\n");
  t.regex(
    (await overlayctl(["join", "192.0.2.11"], env)).err,
    /^overlayctl: a token is needed: --token or --token-file/,
  );
  t.regex(
    (await overlayctl(["join", "192.0.2.11:99999", "--token", "T"], env)).err,
    /^overlayctl: ADDRESS: .* has no port/,
  );
  agent.refusal = undefined;
  t.is((await overlayctl(["join", "192.0.2.11", "--token-file", "-"], env, "from-input\n")).status, 0);
  t.deepEqual(agent.joins, [{ manager: "192.0.2.11:2377", token: "from-input" }]);
});

test("everything else is answered, in a waiting agent, with what to do", async (t) => {
  const { agent, socket } = await waiting(t);
  const env = { OVERLAYD_SOCKET: socket };
  const what = "this node is in no cluster: run 'overlayctl init' or 'overlayctl join ADDRESS --token T'";
  for (const words of [
    "node ls",
    "service ls",
    "network create web",
    "run -- true",
    "join-token worker",
    "user ls",
    "leave",
  ]) {
    const { status, err } = await overlayctl(words.split(" "), env);
    t.deepEqual([status, err], [1, `overlayctl: ${what}\n`], words);
  }
  agent.problem = "192.0.2.11:2377: ECONNREFUSED";
  const { err } = await overlayctl(["node", "ls"], env);
  t.is(err, `overlayctl: ${what}; the join that its configuration asks for fails: 192.0.2.11:2377: ECONNREFUSED\n`);
});

test("user add prints a file for --context, whose key no agent has seen", async (t) => {
  const backend = new FakeBackend([put.node(nodeRow("node1"))]);
  const { status, out, err } = await overlayctl(["user", "add", "alice"], {
    OVERLAYD_SOCKET: await served(t, backend),
  });
  t.is(status, 0);
  t.regex(err, /^overlayctl: keep the output in a file that you alone may read/);
  const file = parse(out) as Record<string, unknown>;
  t.like(file, { user: "alice", cluster: id("cluster"), managers: ["192.0.2.11:2377"] });
  t.regex(String(file.key), /^-----BEGIN PRIVATE KEY-----/);
  t.regex(backend.usersAdded[0]!.request, /^-----BEGIN CERTIFICATE REQUEST-----/);
  t.false(backend.usersAdded[0]!.request.includes(String(file.key).split("\n")[1]!));
});

const wrongContexts: [text: string | undefined, error: RegExp][] = [
  [undefined, /^overlayctl: --context: \/.*alice\.yaml: cannot read it: ENOENT/],
  [
    "",
    /^overlayctl: --context: \/.*alice\.yaml: it is empty; 'overlayctl user add NAME' on a manager makes such a file/,
  ],
  ["user: [", /^overlayctl: --context: \/.*alice\.yaml: it is no YAML: /],
  [
    "user: alice\n",
    /^overlayctl: --context: \/.*alice\.yaml: cluster: .*'overlayctl user add NAME' on a manager makes such a file/,
  ],
];
for (const [text, error] of wrongContexts) {
  test(`a context file with ${JSON.stringify(text)} is refused by its name`, async (t) => {
    const path = join(temporaryDirectory("cli"), "alice.yaml");
    if (text !== undefined) writeFileSync(path, text);
    const { status, err } = await overlayctl(["--context", path, "node", "ls"], {});
    t.is(status, 1);
    t.regex(err, error);
  });
}

test("listings warn of certificates that end within 14 days, and of those that have ended", async (t) => {
  const now = Date.now();
  const backend = new FakeBackend([
    put.node(nodeRow("node1", { certificateExpires: now + 15 * DAY_MS })),
    put.node(nodeRow("node2", { certificateExpires: now + 13.5 * DAY_MS })),
    put.node(nodeRow("node3", { certificateExpires: now - 1.5 * DAY_MS })),
  ]);
  backend.userViews = [{ id: id("alice"), name: "alice", createdAt: 0, expires: now + 3.5 * DAY_MS }];
  const env = { OVERLAYD_SOCKET: await served(t, backend) };
  const nodes = await overlayctl(["node", "ls"], env);
  const [first, second, ...rest] = nodes.err.trimEnd().split("\n");
  t.regex(
    first!,
    /^overlayctl: the certificate of node 'node2' expires in 13 days, on \d{4}-\d\d-\d\d: its agent renews it/,
  );
  t.regex(second!, /^overlayctl: the certificate of node 'node3' expired on \d{4}-\d\d-\d\d: its agent/);
  t.deepEqual(rest, []);
  t.regex(nodes.out, /13 days left/);
  t.regex(nodes.out, /ended 36 hours ago/);
  const users = await overlayctl(["user", "ls"], env);
  t.regex(
    users.err,
    /^overlayctl: the certificate of user 'alice' expires in 3 days, on .*: 'overlayctl user rm alice'/,
  );
  t.deepEqual((await overlayctl(["node", "ls", "--json"], env)).status, 0);
});

test("ca rotate names the nodes that it waits for", async (t) => {
  const backend = new FakeBackend([put.node(nodeRow("node1"))]);
  backend.waitsFor = ["node2", "node3"];
  const { status, out, err } = await overlayctl(["ca", "rotate"], { OVERLAYD_SOCKET: await served(t, backend) });
  t.is(status, 0);
  t.is(
    out,
    "The cluster is getting a new certificate authority: digest-nodes\nThe managers' store is getting a new certificate authority: digest-store\n",
  );
  t.regex(
    err,
    /^overlayctl: the one before is trusted until .*: node2, node3; 'overlayctl ca rotate nodes' looks again/,
  );
  t.regex(err, /until the etcd of these managers .*: node2, node3; 'overlayctl ca rotate store' looks again/);
});

test("ca rotate says why a change needs a person, and what to type", async (t) => {
  const backend = new FakeBackend([put.node(nodeRow("node1"))]);
  backend.waitsFor = ["node3"];
  backend.waitReason = "it waits for that of node3 to be well";
  const { status, err } = await overlayctl(["ca", "rotate", "store"], { OVERLAYD_SOCKET: await served(t, backend) });
  t.is(status, 0);
  t.is(
    err,
    "overlayctl: the one before is trusted until the etcd of these managers has taken the new one: node3; " +
      "it waits for that of node3 to be well; 'overlayctl ca rotate store' looks again\n",
  );
});
