// What the control plane refuses, tried from outside with what an attacker or a mistaken person has, and the words in which
// it says so. Each answer names what is wrong; what a person mends, it says how.
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { createAuthority, createRequest, issue } from "../../src/trust/authority.ts";
import { createKey, type Subject } from "../../src/trust/certificates.ts";
import { formatToken, parseToken } from "../../src/trust/token.ts";
import { curlBriefly, waitFor } from "./command.ts";
import { ask, identityOf, keysOf, type Shown } from "./impostor.ts";
import type { LabNode } from "./lab.ts";
import { systemTest, useLab } from "./system-test.ts";

/** Of Debian's package faketime; the one for programs with threads. */
const FAKETIME = readdirSync("/usr/lib")
  .map((name) => `/usr/lib/${name}/faketime/libfaketimeMT.so.1`)
  .find((path) => existsSync(path));

const HUNDRED_DAYS_MS = 100 * 86_400_000;
const CREATE_NETWORK = { path: "/v1/commands", body: { type: "network.create", name: "stolen" } };

/** The first leads; the last two are in no cluster. */
const lab = useLab({ prefix: "ref", nodes: 5, waiting: 2 }, async ({ nodes: [node1] }) => {
  await node1!.ctl("network", "create", "web");
});

function nodes(): [LabNode, LabNode, LabNode, LabNode, LabNode] {
  return lab().nodes as [LabNode, LabNode, LabNode, LabNode, LabNode];
}

/** A key of the impostor's own, with a certificate for it by `authority`. */
async function certified(
  authority: { certificate: string; key: string },
  subject: Subject,
  now = Date.now(),
): Promise<Shown> {
  const key = createKey();
  return {
    key,
    certificate: await issue(authority, { request: await createRequest(key, subject.name), subject, now }),
  };
}

const otherCluster = {
  kind: "node",
  clusterId: "0".repeat(25),
  id: "1".repeat(25),
  name: "refn1",
  role: "manager",
} as const;

systemTest("who shows no certificate, or one that is not good here, is told what is wrong with it", async (t) => {
  const [node1, node2] = nodes();
  const { client } = lab();
  const { clusterId, nodeId, name } = await identityOf(node2);
  const worker = { kind: "node", clusterId, id: nodeId, name, role: "worker" } as const;
  const manager = { ...worker, id: (await identityOf(node1)).nodeId, name: node1.name, role: "manager" } as const;
  const keys = await keysOf(node1);
  const foreign = await createAuthority({ clusterId: otherCluster.clusterId, purpose: "nodes", now: Date.now() });
  const pretended = await createAuthority({ clusterId, purpose: "nodes", now: Date.now() });
  const rows: [what: string, shown: Shown | undefined, message: RegExp][] = [
    ["no certificate", undefined, /certificate/],
    ["another cluster's", await certified(foreign, otherCluster), /of another cluster/],
    ["one that a CA of the same name made up", await certified(pretended, manager), /not signed by this cluster's CA/],
    ["the store's CA's", await certified(keys.store, manager), /store's CA/],
    ["an expired one", await certified(keys.nodes, worker, Date.now() - HUNDRED_DAYS_MS), /expired .*overlayctl join/],
    ["one of an id that never was", await certified(keys.nodes, { ...worker, id: "2".repeat(25) }), /removed|revoked/],
  ];
  for (const [what, shown, message] of rows) {
    const answer = await ask(client, { manager: node1, ...CREATE_NETWORK, shown });
    t.true(answer.status === 401 || answer.status === 403, `${what}: ${answer.status} ${answer.message}`);
    t.regex(answer.message, message, what);
  }
  t.notRegex(await node1.ctl("network", "ls"), /stolen/);
});

systemTest("a worker writes nothing, and speaks for no other node", async (t) => {
  const [node1, node2, node3] = nodes();
  const typed = await node2.shell("overlayctl network create stolen");
  t.is(typed.status, 1);
  t.regex(typed.stderr, /worker/);
  for (const words of ["status", "move", "move --force", "takeover", "recover", "export /tmp/stolen"]) {
    const { status, stdout, stderr } = await node2.shell(`overlayctl cluster ${words}`);
    t.deepEqual([status, stdout], [1, ""], words);
    t.regex(stderr, /^overlayctl: this node is a worker: run this on a manager \(refn1\)\n$/, words);
  }
  const shown = await identityOf(node2);
  const other = (await identityOf(node3)).nodeId;
  const attempts: [what: string, path: string, body: object][] = [
    ["writes a service", CREATE_NETWORK.path, CREATE_NETWORK.body],
    ["removes a node", "/v1/commands", { type: "node.remove", name: node3.name }],
    ["makes itself a manager", "/v1/commands", { type: "node.promote", name: node2.name }],
    ["rotates a token", "/v1/commands", { type: "token.rotate", role: "manager" }],
    ["moves the state", "/operator/v1/cluster/move", { force: true }],
    [
      "asks an address for another",
      "/v1/commands",
      { type: "endpoint.create", network: "web", node: other, name: "stolen" },
    ],
  ];
  for (const [what, path, body] of attempts) {
    const { status, message } = await ask(node2, { manager: node1, path, body, shown });
    t.is(status, 403, `${what}: ${message}`);
  }
});

systemTest(
  "a token that is cut, wrong or rotated, and a name that is taken, are refused with what to type",
  async (t) => {
    const [node1, , , node4] = nodes();
    const manager = `${node1.address}:2377`;
    const token = await lab().token("worker");
    const { digest } = parseToken(token);
    const join = (text: string) => node4.shell(`overlayctl join ${manager} --token ${text}`);
    const refused: [what: string, token: string, message: RegExp][] = [
      ["cut", token.slice(0, -3), /the join token is cut.*overlayctl join-token/],
      ["none", "secret", /no join token/],
      ["of another cluster", token.replace(digest, "0".repeat(digest.length)), /the token is of another cluster/],
      ["wrong", formatToken({ digest, secret: "0".repeat(25) }), /token/],
    ];
    for (const [what, text, message] of refused) {
      const { status, stderr } = await join(text);
      t.is(status, 1, what);
      t.regex(stderr, message, what);
    }
    await node1.ctl("join-token", "worker", "--rotate");
    t.regex((await join(token)).stderr, /token.*overlayctl join-token/);
    t.regex(
      (await node4.shell("overlayctl node ls")).stderr,
      /in no cluster: run 'overlayctl init' or 'overlayctl join/,
    );
    t.is((await join(await lab().token("worker"))).status, 0);
    await waitFor(
      async () => (await node1.api.nodes()).some(({ name, state }) => name === node4.name && state === "ready"),
      {
        what: "the node to have joined with the new token",
      },
    );
  },
);

systemTest("`init` where a cluster is, says so", async (t) => {
  for (const node of nodes().slice(0, 2)) {
    const { status, stderr } = await node.shell("overlayctl init");
    t.is(status, 1);
    t.regex(stderr, /cluster here already/);
  }
});

systemTest("a clock that is two hours off at the join is said to be", async (t) => {
  const [node1, , , , node5] = nodes();
  const token = await lab().token("worker");
  for (const [offset, message] of [
    ["-2h", /clock is .*behind/],
    ["+2h", /this machine's clock is (2 h 0|1 h 59) min ahead of the manager's.*timedatectl/],
  ] as const) {
    await node5.stopAgent();
    await node5.startAgent(["env", `LD_PRELOAD=${FAKETIME}`, `FAKETIME=${offset}`, "FAKETIME_DONT_FAKE_MONOTONIC=1"]);
    const { status, stderr } = await node5.shell(`overlayctl join ${node1.address} --token ${token}`);
    t.is(status, 1, offset);
    t.regex(stderr, message);
  }
  await node5.stopAgent();
  await node5.startAgent();
});

systemTest("a token is for one role, and another one cannot be had with it", async (t) => {
  const [node1, , , , node5] = nodes();
  const key = createKey();
  const request = await createRequest(key, node5.name);
  const identity = {
    name: node5.name,
    address: node5.address,
    vxlanPort: 4789,
    sealed: null,
    mesh: true,
    manager: true,
    listen: null,
    advertise: null,
  };
  const body = { token: await lab().token("worker"), role: "manager", request, identity, now: Date.now() };
  const { status, message } = await ask(node5, { manager: node1, path: "/v1/join", body, shown: undefined });
  t.is(status, 403, message);
  t.regex(message, /for a worker, not for a manager: 'overlayctl join-token manager'/);
});

systemTest("a name that is taken is refused to another machine, until `node rm` frees it", async (t) => {
  const [node1, , node3, , node5] = nodes();
  const config = readFileSync(node5.configPath, "utf8");
  t.teardown(() => writeFileSync(node5.configPath, config));
  await node5.stopAgent();
  writeFileSync(node5.configPath, config.replace(`name: ${node5.name}`, `name: ${node3.name}`));
  await node5.startAgent();
  const { status, stderr } = await node5.shell(
    `overlayctl join ${node1.address} --token ${await lab().token("worker")}`,
  );
  t.is(status, 1);
  t.regex(stderr, new RegExp(`'${node3.name}'.*overlayctl node rm ${node3.name}`));
});

systemTest("a node of a version before, which speaks plain HTTP, is refused in words", async (t) => {
  const [node1, node2] = nodes();
  const { stdout } = await node2.tryExec(curlBriefly("-d", "{}", `http://${node1.address}:2377/v1/sessions`));
  t.regex(stdout, /this manager speaks TLS only.*overlayctl join/);
});

systemTest(
  "a manager of a version before, which speaks plain HTTP, is told from one that cannot be reached",
  async (t) => {
    const [node1, , , , node5] = nodes();
    const script = "require('http').createServer((_, answer) => answer.end()).listen(2399)";
    const { stdout: pid } = await node1.shell(`node -e "${script}" >/dev/null 2>&1 & echo $!`);
    await waitFor(async () => (await node1.shell("ss -ltn | grep -q :2399")).status === 0, { what: "it to listen" });
    const token = await lab().token("worker");
    const { status, stderr } = await node5.shell(`overlayctl join ${node1.address}:2399 --token ${token}`);
    await node1.exec(["kill", pid.trim()]);
    t.is(status, 1);
    t.regex(stderr, /192\.0\.2\.11:2399 answers, but not as a manager of this version does, with TLS 1\.3/);
  },
);

systemTest("a session of a later protocol is refused, and says which end is to be updated", async (t) => {
  const [node1, , , node4] = nodes();
  const shown = await identityOf(node4);
  const identity = {
    name: node4.name,
    address: node4.address,
    vxlanPort: 4789,
    sealed: null,
    mesh: true,
    manager: false,
  };
  const body = { ...identity, listen: null, advertise: null, known: null, protocol: 99, features: ["of-later"] };
  const { status, message } = await ask(node4, { manager: node1, path: "/v1/sessions", body, shown });
  t.is(status, 409, message);
  t.regex(message, /speaks protocol 99.*update overlayd on the managers first/);
});
