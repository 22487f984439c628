// overlayctl as a person runs it: a process of its own against an agent's socket; output and exit status by rows.
import { type ChildProcessWithoutNullStreams, spawn } from "node:child_process";
import { once } from "node:events";
import { chmodSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import ava from "ava";
import { UserError } from "../../src/lib/errors.ts";
import {
  FakeBackend,
  FakeWaiting,
  id,
  networkRow,
  nodeRow,
  put,
  served,
  servedUntilClosed,
  servedWaiting,
  serviceRow,
  statusRow,
  taskRow,
} from "../api/fake-backend.ts";
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

function start(socket: string, args: readonly string[], env: NodeJS.ProcessEnv = {}): ChildProcessWithoutNullStreams {
  return spawn(process.execPath, [MAIN, ...args], { env: { ...process.env, OVERLAYD_SOCKET: socket, ...env } });
}

async function ended(child: ChildProcessWithoutNullStreams): Promise<Ended> {
  let out = "";
  let err = "";
  child.stdout.on("data", (part) => {
    out += part;
  });
  child.stderr.on("data", (part) => {
    err += part;
  });
  const [status] = await once(child, "close");
  return { status, out, err };
}

/** Resolves when the output so far holds `text`. */
function says(child: ChildProcessWithoutNullStreams, text: string): Promise<void> {
  let out = "";
  return new Promise((resolve, reject) => {
    child.stdout.on("data", (part) => {
      out += part;
      if (out.includes(text)) resolve();
    });
    child.once("close", () => reject(new Error(`ended without '${text}': ${out}`)));
  });
}

/** Three nodes, one of them down and one draining; a service with a failed, a running, a replaced and a homeless task. */
function cluster(): FakeBackend {
  const now = Date.now();
  const replaced = taskRow("search", 2, "node3", { id: id("old"), desired: "shutdown", createdAt: now - 7_200_000 });
  const tasks = [
    taskRow("search", 1, "node1", { createdAt: now - 200_000 }),
    taskRow("search", 2, "node2", { createdAt: now - 100_000 }),
    taskRow("search", 3, null, { error: "no node fits: node.name==node9", createdAt: now - 400_000 }),
  ];
  const backend = new FakeBackend([
    put.node(nodeRow("node1", { certificateExpires: now + 89 * DAY_MS })),
    put.node(nodeRow("node2", { availability: "drain", certificateExpires: now + 40 * DAY_MS })),
    put.node(nodeRow("node3", { state: "down" })),
    put.network(networkRow("default", { vni: 3, subnet: "10.192.16.0/20" })),
    put.network(networkRow("web", { internal: true, encrypted: true })),
    put.service(
      serviceRow("search", {
        workload: {
          runtime: "process",
          command: ["node", "/srv/configs/search-server.js"],
          env: { A: "b" },
          workdir: null,
          stopGracePeriodMs: 10_000,
        },
        replicas: 3,
        ports: [{ published: 9200, target: 9200, protocol: "tcp", mode: "ingress", address: null }],
      }),
    ),
    ...[...tasks, replaced].map(put.task),
    put.status(statusRow(tasks[0]!, "running", { since: now - 200_000 })),
    put.status(statusRow(tasks[1]!, "failed", { since: now - 100_000, error: "exit status 1\nbad flag", exitCode: 1 })),
    put.status(statusRow(replaced, "running", { since: now - 7_200_000 })),
  ]);
  backend.peerViews = [
    {
      name: "node2",
      address: "192.0.2.12",
      state: "up",
      reason: null,
      rttMs: 0.2149,
      mtu: 1450,
      lane: "on",
      laneReason: null,
      laneDelivery: "by-link",
      ...{ sealed: "on", sealedReason: null, keysAgeMs: 720_000, rekeys: 3, sealedPackets: 9, openedPackets: 8 },
      ...{ badSeals: 1, replayed: 1 },
      rxPackets: 10,
      txPackets: 12,
      rxBytes: 1500,
      txBytes: 999,
      tasks: 1,
      certificateExpires: now + 40 * DAY_MS,
    },
    {
      name: "node3",
      address: "192.0.2.13",
      state: "down",
      reason: "no answer on UDP port 4789",
      rttMs: null,
      mtu: null,
      lane: "off",
      laneReason: "older-agent",
      laneDelivery: null,
      ...{
        sealed: "off",
        sealedReason: "no key yet",
        keysAgeMs: null,
        rekeys: null,
        sealedPackets: 0,
        openedPackets: 0,
      },
      ...{ badSeals: 0, replayed: 0 },
      rxPackets: 0,
      txPackets: 3,
      rxBytes: 0,
      txBytes: 198,
      tasks: 0,
      certificateExpires: null,
    },
  ];
  return backend;
}

const ID = (word: string) => id(word).slice(0, 12);

const outputs: [args: string, out: string[]][] = [
  [
    "network ls",
    [
      "NETWORK ID     NAME      SUBNET           VNI       SCOPE     INTERNAL   ENCRYPTED",
      `${ID("default")}   default   10.192.16.0/20   3         cluster   false      false`,
      `${ID("web")}   web       10.192.32.0/20   4096      cluster   true       true`,
    ],
  ],
  ["network ls -q", [ID("default"), ID("web")]],
  ["network ls -q --no-trunc", [id("default"), id("web")]],
  ["network list --quiet", [ID("default"), ID("web")]],
  ["network ls -q --filter name=we", [ID("web")]],
  ["network ls -q -f name=web -f name=default", [ID("default"), ID("web")]],
  ["network ls -q -f name=web -f internal=false", [""]],
  ["service ls -q --filter mode=replicated", [ID("search")]],
  ["service ps -q search --filter node=node2", [ID("search2t")]],
  ["service ps -q search -f desired-state=shutdown", [ID("old")]],
  ["node ls -q --filter role=manager", [id("node1")]],
  ["peers -q --filter state=down", ["node3"]],
  ["peers -q --filter lane=on", ["node2"]],
  ["peers -q --filter name=node", ["node2", "node3"]],
  [
    "service ls",
    [
      "ID             NAME      MODE         REPLICAS   IMAGE                            PORTS",
      `${ID("search")}   search    replicated   1/3        node /srv/configs/search-serv…   *:9200->9200/tcp`,
    ],
  ],
  ["service ls -q", [ID("search")]],
  [
    "service ls --no-trunc",
    [
      "ID                          NAME      MODE         REPLICAS   IMAGE                                PORTS",
      `${id("search")}   search    replicated   1/3        node /srv/configs/search-server.js   *:9200->9200/tcp`,
    ],
  ],
  [
    "service ps search",
    [
      "ID             NAME           IMAGE                            NODE      DESIRED STATE   CURRENT STATE               ERROR                              PORTS",
      `${ID("search1t")}   search.1       node /srv/configs/search-serv…   node1     Running         Running 3 minutes ago`,
      `${ID("search2t")}   search.2       node /srv/configs/search-serv…   node2     Running         Failed about a minute ago   "exit status 1 bad flag"`,
      `${ID("old")}    \\_ search.2   node /srv/configs/search-serv…   node3     Shutdown        Running 2 hours ago`,
      `${ID("search3t")}   search.3       node /srv/configs/search-serv…             Running         Pending 6 minutes ago       "no node fits: node.name==node9"`,
    ],
  ],
  ["service ps -q search", ["search1t", "search2t", "old", "search3t"].map(ID)],
  [
    "node ls",
    [
      "ID                            HOSTNAME   ADDRESS      STATUS    AVAILABILITY   MANAGER STATUS   MESH      TASKS     CERTIFICATE",
      `${id("node1")} *   node1      192.0.2.11   Ready     Active         Leader           on        1         2 months left`,
      `${id("node2")}     node2      192.0.2.12   Ready     Drain                           on        1         5 weeks left`,
      `${id("node3")}     node3      192.0.2.13   Down      Active                          on        0         -`,
    ],
  ],
  [
    "peers",
    [
      "NAME      ADDRESS      STATE     RTT       MTU       LANE                SEALED                               RX BYTES   RX PACKETS   TX BYTES   TX PACKETS   TASKS     CERTIFICATE    REASON",
      "node2     192.0.2.12   up        0.21 ms   1450      on (by-link)        on (12 minutes, 3 rekeys, 2 drops)   1.5kB      10           999B       12           1         5 weeks left",
      "node3     192.0.2.13   down      -         -         off (older-agent)   off                                  0B         0            198B       3            0         -              no answer on UDP port 4789; no key yet",
    ],
  ],
  [
    "stats",
    [
      "PART       COUNTER     VALUE     PER SECOND",
      "datapath   rxPackets   7         0",
      "drops      NoRoute     3         0",
      "dns        queries     2         0",
    ],
  ],
  ["stats --filter part=drops", ["PART      COUNTER   VALUE     PER SECOND", "drops     NoRoute   3         0"]],
  [
    "stats --filter counter=Packets --all",
    [
      "PART       COUNTER     VALUE     PER SECOND",
      "datapath   rxPackets   7         0",
      "datapath   txPackets   0         0",
    ],
  ],
  [
    "flows --filter protocol=udp",
    ["PROTOCOL   CLIENT    DESTINATION   TARGET    TASK      NODE      STATE     LANE      AGE       PACKETS   BYTES"],
  ],
  [
    "flows --service search",
    [
      "PROTOCOL   CLIENT              DESTINATION        TARGET              TASK       NODE      STATE         LANE      AGE              PACKETS   BYTES",
      "tcp        10.192.32.9:40000   10.192.32.2:9200   10.192.32.11:9200   search.1   node2     established   both      About a minute   12        3.4kB",
    ],
  ],
  ["network rm web", ["web"]],
  ["service rm search", ["search"]],
  ["node drain node1", ["node1"]],
  ["node activate node2", ["node2"]],
  ["node rm node3", ["node3"]],
  ["node rm --force node3", ["node3"]],
  ["node promote node2", ["Node node2 promoted to a manager in the cluster."]],
  ["node demote node1", ["Manager node1 demoted in the cluster."]],
  ["node promote node1", ["Node node1 is already a manager."]],
  ["node demote node2", ["Node node2 is already a worker."]],
  ["user rm alice", ["alice"]],
  [
    "ca rotate",
    [
      "The cluster has a new certificate authority: digest-nodes",
      "The managers' store has a new certificate authority: digest-store",
    ],
  ],
  ["ca rotate store", ["The managers' store has a new certificate authority: digest-store"]],
  ["join-token manager -q", ["ovl-1-manager"]],
  [
    "join-token worker",
    [
      "To add a worker to this cluster, run the following command:",
      "",
      "    overlayctl join 192.0.2.11:2377 --token ovl-1-worker",
    ],
  ],
  [
    "join-token --rotate manager",
    [
      "Successfully rotated manager join token.",
      "",
      "To add a manager to this cluster, run the following command:",
      "",
      "    overlayctl join 192.0.2.11:2377 --token ovl-1-manager",
    ],
  ],
  ["network create blue --internal", [id("blue")]],
  ["network create blue --opt encrypted", [id("blue")]],
  ["network create blue -o encrypted=", [id("blue")]],
  ["network ls -q -f encrypted=true", [ID("web")]],
];
for (const [args, out] of outputs) {
  test(`overlayctl ${args}`, async (t) => {
    const socket = await served(t, cluster());
    const { status, out: text, err } = await ended(start(socket, args.split(" ")));
    t.deepEqual([status, err], [0, ""]);
    t.deepEqual(text.trimEnd().split("\n"), out);
  });
}

for (const args of ["network ls", "service ls", "service ps search", "node ls", "peers", "flows"]) {
  for (const json of ["--json", "--format json"]) {
    test(`overlayctl ${args} ${json} prints an array`, async (t) => {
      const { status, out } = await ended(start(await served(t, cluster()), [...args.split(" "), ...json.split(" ")]));
      t.is(status, 0);
      t.true((JSON.parse(out) as object[]).length > 0);
    });
  }
}

for (const [words, keptState, shown] of [
  ["node ls", "kept", "its copy of revision \\d+"],
  ["network ls --json", "kept", "its copy of revision \\d+"],
  ["service inspect search", "disk", "its copy of revision \\d+ from its disk, which may lack what it wrote last"],
] as const) {
  test(`${words} on a node without a leader says why, and shows what it has (${keptState})`, async (t) => {
    const backend = cluster();
    backend.connected = false;
    backend.keptState = keptState;
    backend.problem = "192.0.2.11:2377: it leads another cluster";
    const { status, out, err } = await ended(start(await served(t, backend), words.split(" ")));
    t.is(status, 0);
    t.regex(out, /node1 |"name"/);
    t.regex(
      err,
      new RegExp(`^overlayctl: node1 has no leader, and shows ${shown}: 192\\.0\\.2\\.11:2377: it leads.*\n$`),
    );
  });
}

test("a listing is printed and done though the agent ends before it has said why the listing may be old", async (t) => {
  const backend = cluster();
  backend.connected = false;
  backend.keptState = "kept";
  backend.leader = () => {
    throw new UserError(503, "the agent is stopping");
  };
  const { status, out, err } = await ended(start(await served(t, backend), ["network", "ls"]));
  t.is(status, 0);
  t.regex(out, /NAME/);
  t.is(err, "overlayctl: this node has no leader, and shows its copy: why is not known (the agent is stopping)\n");
});

test("node ls shows nodes that are behind, stuck or silent as such", async (t) => {
  const backend = cluster();
  const rows = (["behind", "stuck", "silent"] as const).map((health, i) =>
    put.node(nodeRow(`node${i + 4}`, { health })),
  );
  backend.change(...rows, put.node(nodeRow("node7", { health: "stuck", state: "down" })));
  const { out } = await ended(start(await served(t, backend), ["node", "ls"]));
  for (const [name, word] of Object.entries({
    node1: "Ready",
    node4: "Behind",
    node5: "Stuck",
    node6: "Silent",
    node7: "Down",
  }))
    t.regex(out, new RegExp(`${name} +\\S+ +${word} `));
});

test("leave says what would be lost and does nothing, and with --force waits until the agent waits to join", async (t) => {
  const backend = cluster();
  backend.refusal = new UserError(409, "leaving ends what this node has: 1 task; '--force' does it");
  const { path, close } = await servedUntilClosed(t, backend);
  const refused = await ended(start(path, ["leave"]));
  t.is(refused.status, 1);
  t.regex(refused.err, /^overlayctl: leaving ends what this node has/);
  const child = start(path, ["leave", "--force"]);
  // The agent ends, and waits to join then.
  backend.whenLeft = () => {
    void close().then(() => setTimeout(() => void servedWaiting(t, new FakeWaiting(), path), 500));
  };
  const { status, out, err } = await ended(child);
  t.deepEqual([status, err], [0, ""]);
  t.is(out, "Node left the cluster.\n");
  t.deepEqual(backend.left, [true]);
});

test("express on and off switch the node's lane, and say why there is none to turn on", async (t) => {
  const backend = cluster();
  const path = await served(t, backend);
  const off = await ended(start(path, ["express", "off"]));
  t.deepEqual([off.status, off.out], [0, "Flows have left the express lane, and go on by the agent.\n"]);
  const on = await ended(start(path, ["express", "on"]));
  t.deepEqual([on.status, on.out], [0, "Flows enter the express lane.\n"]);
  t.deepEqual(backend.turned, [false, true]);
  backend.refusal = new UserError(409, "this node has no express lane: this kernel (6.1) has no tcx");
  const refused = await ended(start(path, ["express", "on"]));
  t.deepEqual(
    [refused.status, refused.err],
    [1, "overlayctl: this node has no express lane: this kernel (6.1) has no tcx\n"],
  );
  const neither = await ended(start(path, ["express"]));
  t.regex(neither.err, /on.*\n.*off/);
});

test("leave says that no leader has heard of it, and how long the node is shown as up", async (t) => {
  const backend = cluster();
  backend.unheard = "no leader answers (192.0.2.11:2377: ECONNREFUSED)";
  const { path, close } = await servedUntilClosed(t, backend);
  const child = start(path, ["leave", "--force"]);
  backend.whenLeft = () => {
    void close().then(() => void servedWaiting(t, new FakeWaiting(), path));
  };
  const { status, err } = await ended(child);
  t.is(status, 0);
  t.regex(
    err,
    /^overlayctl: no leader has heard that it left \(no leader answers .*\): 'node ls' shows the node as up until the session time-out/,
  );
});

test("stats --json prints every counter", async (t) => {
  const { out } = await ended(start(await served(t, cluster()), ["stats", "--json"]));
  t.deepEqual(JSON.parse(out), {
    datapath: { rxPackets: 7, txPackets: 0 },
    drops: { NoRoute: 3 },
    dns: { queries: 2 },
    rates: { datapath: { rxPackets: 0, txPackets: 0 }, drops: { NoRoute: 0 }, dns: { queries: 0 } },
  });
});

for (const [kind, name] of [
  ["network", "web"],
  ["service", "search"],
  ["node", "node2"],
] as const) {
  test(`overlayctl ${kind} inspect prints what was found, and fails for what was not`, async (t) => {
    const child = start(await served(t, cluster()), [kind, "inspect", "nothing-like-it", name]);
    const { status, out, err } = await ended(child);
    t.is(status, 1);
    t.deepEqual(
      (JSON.parse(out) as { name: string }[]).map((found) => found.name),
      [name],
    );
    t.is(err, `overlayctl: no such ${kind}: nothing-like-it\n`);
  });
}

const CREATE = "service create --name web -p 80:8080 --publish published=53,target=53,protocol=udp --replicas 2";
const CREATE_MORE =
  "--network name=web,alias=db,alias=store --dns-ttl 2m -e A=1 --env B -w /srv --constraint node.name==node1 --endpoint-mode dnsrr --scheduler wrr --weight node1=3 --weight node2=0 --affinity client-ip --affinity-timeout 2m --locality prefer-local --ingress-source-nat --stop-grace 30s --stop-grace-period 45s";

test("service create asks for what its options say, and prints id and progress", async (t) => {
  const backend = cluster();
  const args = [...`${CREATE} ${CREATE_MORE}`.split(" "), "--", "serve", "--name", "x"];
  const { status, out, err } = await ended(start(await served(t, backend), args, { B: "2" }));
  t.deepEqual([status, err], [0, ""]);
  t.deepEqual(out.trimEnd().split("\n"), [
    id("web"),
    "overall progress: 2 out of 2 tasks",
    "1/2: running",
    "2/2: running",
    "verify: waiting until every node has it in force",
    "verify: Service converged",
  ]);
  t.deepEqual(backend.commands, [
    {
      type: "service.create",
      name: "web",
      workload: {
        runtime: "process",
        command: ["serve", "--name", "x"],
        env: { A: "1", B: "2" },
        workdir: "/srv",
        stopGracePeriodMs: 45_000,
      },
      labels: {},
      replicas: 2,
      networks: [{ name: "web", aliases: ["db", "store"] }],
      dnsTtlSeconds: 120,
      endpointMode: "dnsrr",
      balancing: {
        ...{ scheduler: "wrr", affinity: "client-ip", affinityTimeoutSeconds: 120, locality: "prefer-local" },
        weights: { node1: 3, node2: 0 },
      },
      ports: [
        { published: 80, target: 8080, protocol: "tcp", mode: "ingress", address: null },
        { published: 53, target: 53, protocol: "udp", mode: "ingress", address: null },
      ],
      ingressSourceNat: true,
      stopGraceMs: 30_000,
      constraints: ["node.name==node1"],
    },
  ]);
});

test("service create refuses --proxy-protocol, and says what a task sees without it", async (t) => {
  const backend = cluster();
  const args = ["service", "create", "--name", "web", "--proxy-protocol", "--", "serve"];
  const { status, out, err } = await ended(start(await served(t, backend), args));
  t.deepEqual([status, out, backend.commands], [1, "", []]);
  t.regex(err, /a task sees the client's own address/);
});

test("options behind the image of a service are its command's", async (t) => {
  const backend = cluster();
  const args = ["service", "create", "--detach", "--name", "web", "serve:1", "--replicas", "3"];
  t.is((await ended(start(await served(t, backend), args))).out, `${id("web")}\n`);
  t.like(backend.commands[0], {
    workload: { runtime: "docker", image: "serve:1", command: ["--replicas", "3"] },
    replicas: 1,
  });
});

test("service create --quiet prints the id alone", async (t) => {
  const child = start(await served(t, cluster()), ["service", "create", "-q", "--name", "web", "serve"]);
  t.deepEqual(await ended(child), { status: 0, out: `${id("web")}\n`, err: "" });
});

test("service scale scales each service and shows its progress", async (t) => {
  const backend = cluster();
  const { status, out } = await ended(start(await served(t, backend), ["service", "scale", "search=2"]));
  t.is(status, 0);
  t.regex(out, /^search scaled to 2\noverall progress: 2 out of 2 tasks\n/);
  t.true(out.endsWith("verify: Service converged\n"));
});

test("a wait that is too long fails with the reason", async (t) => {
  const backend = cluster();
  backend.behind = "node 'node2' has not applied it";
  const args = ["service", "create", "--name", "web", "-p", "80:80", "--timeout", "1ms", "serve"];
  const { status, err } = await ended(start(await served(t, backend), args));
  t.is(status, 1);
  t.is(err, "overlayctl: not converged in time: node 'node2' has not applied it\n");
});

test("Ctrl-C ends the wait, not the service", async (t) => {
  const backend = cluster();
  backend.behind = "node 'node2' has not applied it";
  const child = start(await served(t, backend), ["service", "create", "--name", "web", "-p", "80:80", "serve"]);
  const end = ended(child);
  await says(child, "verify: node 'node2'");
  child.kill("SIGINT");
  const { status, err } = await end;
  t.is(status, 130);
  t.regex(err, /Operation continuing in background\.\nUse `overlayctl service ps web/);
});

test("peers --watch shows them again and again", async (t) => {
  const child = start(await served(t, cluster()), ["peers", "--watch", "-q"]);
  const end = ended(child);
  await says(child, "node2\nnode3\nnode2\nnode3\n");
  child.kill("SIGINT");
  await end;
  t.pass();
});

const usage: [args: string, says: RegExp][] = [
  ["sevice ls", /unknown command 'sevice'\n\(Did you mean service\?\)/],
  ["service lss", /unknown command 'lss'\n\(Did you mean ls\?\)/],
  ["network ls --filter web", /'web' is invalid. write KEY=VALUE/],
  ["service ps a --filter nod=node1", /'nod=node1' is invalid. no filter 'nod'; did you mean 'node'\?/],
  [
    "service ps a --filter desired-state=runnign",
    /desired-state is running or draining or shutdown, not 'runnign'; did/,
  ],
  ["network create blue -o encryptd", /there is no option 'encryptd' of a network: the only one is 'encrypted'/],
  ["network create blue -o encrypted=yes", /'encrypted' is true or false, and not 'yes'/],
  ["network ls --filter internal=yes", /internal is true or false, not 'yes'/],
  ["service inspect --format {{.ID}} a", /Allowed choices are json/],
  ["service create", /'--name <name>' not specified/],
  ["service create --name a", /missing required argument 'image'/],
  ["service create --name a --nme b x", /unknown option '--nme'\n\(Did you mean --name\?\)/],
  ["service create --name a -p 9200: x", /write \[ADDRESS:\]\[PUBLISHED:\]TARGET/],
  ["service create --name a --replicas many x", /'many' is invalid. a whole number/],
  ["service create --name a --endpoint-mode vpi x", /'vpi' is invalid. Allowed choices are vip, dnsrr/],
  ["service create --name a --scheduler wlc x", /'wlc' is invalid. Allowed choices are rr, wrr, lc, sh, maglev/],
  ["service create --name a --weight node1 x", /'node1' is invalid. write NODE=WEIGHT/],
  ["service create --name a --timeout soon x", /'soon' is invalid. a number and a unit/],
  ["service scale search", /write SERVICE=REPLICAS/],
  ["service ps", /missing required argument 'service'/],
  ["network ls --format yaml", /Allowed choices are table, json/],
  ["network create a b", /too many arguments/],
  ["run", /missing required argument 'command'/],
  ["flows --limit all", /a whole number/],
  ["service", /Usage: overlayctl service/],
];
for (const [args, message] of usage) {
  test(`a wrong call is explained, with status 2: overlayctl ${args}`, async (t) => {
    const { status, out, err } = await ended(start("/nonexistent/overlayd.sock", args.split(" ")));
    t.deepEqual([status, out], [2, ""]);
    t.regex(err, message);
  });
}

const failures: [args: string, says: string][] = [
  ["service inspect serach --json", "no such service: serach; did you mean 'search'?"],
  ["service ps wab", "no such service: wab"],
  [
    "network create bad_name-",
    "name: a name has letters, digits, '-' and '_', between dots 63 at most, and no '-' at either end",
  ],
  [
    "service create --name a --constraint node.size==big x",
    "--constraint: a constraint is node.name==NAME or node.name!=NAME",
  ],
  ["service scale search=5000", "replicas: at most 4096 replicas"],
];
for (const [args, message] of failures) {
  test(`what the cluster refuses is said, with status 1: overlayctl ${args}`, async (t) => {
    const { status, out, err } = await ended(start(await served(t, cluster()), args.split(" ")));
    t.deepEqual([status, err], [1, `overlayctl: ${message}\n`]);
    t.is(out, args.endsWith("--json") ? "[]\n" : "");
  });
}

test("a write without a leader says why", async (t) => {
  const backend = cluster();
  backend.refusal = new UserError(503, "no leader answers: 192.0.2.11:2377 refused the connection");
  const { status, err } = await ended(start(await served(t, backend), ["network", "create", "blue"]));
  t.deepEqual([status, err], [1, `overlayctl: ${backend.refusal.message}\n`]);
});

for (const args of [
  ["--socket", "/nonexistent/overlayd.sock", "network", "ls"],
  ["network", "ls", "--socket", "/nonexistent/overlayd.sock"],
]) {
  test(`without an agent it says what to do: overlayctl ${args.join(" ")}`, async (t) => {
    const { status, err } = await ended(start("/elsewhere", args));
    t.is(status, 1);
    t.true(err.startsWith("overlayctl: no agent listens on /nonexistent/overlayd.sock: start it with"), err);
  });
}

test("the version is printed", async (t) => {
  const { status, out } = await ended(start("/nonexistent", ["--version"]));
  t.is(status, 0);
  t.regex(out, /^\d+\.\d+\.\d+\n$/);
});

/** A PATH on which `ip netns exec NETNS COMMAND` is COMMAND. */
function withFakeIp(): NodeJS.ProcessEnv {
  const directory = temporaryDirectory("cli");
  const path = join(directory, "ip");
  writeFileSync(path, '#!/bin/sh\n[ "$1 $2 $3" = "netns exec ovl-node1-sandbox" ] || exit 99\nshift 3\nexec "$@"\n');
  chmodSync(path, 0o755);
  return { PATH: `${directory}:${process.env.PATH}` };
}

const runs: [name: string, command: string[], status: number, out: string, err: RegExp][] = [
  ["its output is the command's", ["echo", "a b"], 0, "a b\n", /^$/],
  ["its status is the command's", ["sh", "-c", "exit 7"], 7, "", /^$/],
  ["a command that a signal ended", ["sh", "-c", "kill -9 $$"], 137, "", /^$/],
  ["a command that does not exist", ["no-such-command"], 127, "", /no-such-command: not found/],
  ["options behind the command are the command's", ["echo", "--network", "x"], 0, "--network x\n", /^$/],
];
for (const [name, command, status, out, err] of runs) {
  test(`run: ${name}`, async (t) => {
    const backend = cluster();
    const child = start(await served(t, backend), ["run", "--network", "web", "--", ...command], withFakeIp());
    const end = await ended(child);
    t.deepEqual([end.status, end.out], [status, out]);
    t.regex(end.err, err);
    t.deepEqual(backend.opened, [{ network: "web", name: null, pid: child.pid! }]);
    t.deepEqual(backend.closed, [id("sandbox")]);
  });
}

for (const [signal, status] of [
  ["SIGTERM", 3],
  ["SIGINT", 4],
] as const) {
  test(`run: ${signal} reaches the command, whose status counts`, async (t) => {
    const backend = cluster();
    const script = "trap 'exit 3' TERM; trap 'exit 4' INT; echo ready; while :; do sleep 0.05; done";
    const child = start(await served(t, backend), ["run", "--name", "probe", "sh", "-c", script], withFakeIp());
    const end = ended(child);
    await says(child, "ready");
    child.kill(signal);
    t.is((await end).status, status);
    t.deepEqual(backend.opened, [{ network: "default", name: "probe", pid: child.pid! }]);
    t.deepEqual(backend.closed, [id("sandbox")]);
  });
}

test("run: without ip it says what to install, and closes the sandbox", async (t) => {
  const backend = cluster();
  const child = start(await served(t, backend), ["run", "true"], { PATH: "/nonexistent" });
  const { status, err } = await ended(child);
  t.is(status, 1);
  t.regex(err, /cannot run ip: .*apt-get install iproute2/);
  t.deepEqual(backend.closed, [id("sandbox")]);
});

test("run: a network that is not there is said, and nothing is run", async (t) => {
  const backend = cluster();
  backend.refusal = new UserError(404, "no such network: wbe");
  const { status, out, err } = await ended(start(await served(t, backend), ["run", "--network", "wbe", "echo", "x"]));
  t.deepEqual([status, out, err], [1, "", "overlayctl: no such network: wbe\n"]);
});
