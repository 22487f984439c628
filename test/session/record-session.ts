// Records a session of this version: what the leader sends a node, and what the node reports. Run it once for a protocol version and
// each feature that comes to it, and never again for that:
// `node dist/test/session/record-session.js > test/golden/session-protocol-1-sealed.json`.
import type { CommandInput } from "../../src/cluster/commands.ts";
import { FEATURES, PROTOCOL } from "../../src/cluster/features.ts";
import type { ReportInput, SessionRequest } from "../../src/cluster/protocol.ts";
import { stateToJson } from "../../src/cluster/state.ts";
import type { Leader } from "../../src/leader/leader.ts";
import type { Joining } from "../../src/leader/nodes.ts";
import { Cluster } from "../leader/cluster-fixture.ts";
import { readingSink } from "../leader/fake-node.ts";

const lines: unknown[] = [];
const reports: ReportInput[] = [];
let request: SessionRequest | undefined;

/** The leader as the node reaches it, which keeps what goes both ways. */
function recording(leader: Leader): Leader {
  const sessions: Pick<Leader["sessions"], "open" | "report"> = {
    open: (peer, asked, sink) => {
      request = asked;
      const keep = readingSink(
        (line) => {
          lines.push(line);
          sink.send(Buffer.from(`${JSON.stringify(line)}\n`));
        },
        () => sink.close(),
      );
      return leader.sessions.open(peer, asked, keep);
    },
    report: (id, report) => {
      const numbered = { ...report, seq: reports.length + 1, docker: true, addresses: ["192.0.2.12"] };
      reports.push(numbered);
      return leader.sessions.report(id, numbered);
    },
  };
  return { sessions, admit: (joining: Joining) => leader.admit(joining) } as Leader;
}

const cluster = await Cluster.start(3);
const [first, node, third] = cluster.nodes;
const { leader } = cluster;
first!.features = node!.features = [...FEATURES]; // the third has an agent that came before all of them
await first!.join(leader);
await node!.join(recording(leader));
await cluster.settle();
const process = { runtime: "process" as const, command: ["node", "server.js"], env: { PORT: "80" } };
const docker = { runtime: "docker" as const, image: "registry.example/app:1", registryAuth: "c2VjcmV0" };
const commands: CommandInput[] = [
  { type: "network.create", name: "web", subnet: "10.192.64.0/24" },
  {
    type: "service.create",
    name: "search",
    workload: process,
    replicas: 3,
    networks: ["web"],
    ports: [{ target: 80 }],
  },
  {
    type: "service.create",
    name: "app",
    workload: docker,
    replicas: 2,
    labels: { a: "b" },
    networks: [{ name: "web", aliases: ["x"] }],
  },
  { type: "endpoint.create", node: node!.id!, network: "web", name: "tool" },
  {
    type: "external.add",
    network: "web",
    name: "printer",
    address: "10.192.64.200",
    mac: "02:00:5e:10:00:01",
    vtep: "198.51.100.9",
  },
  {
    type: "attach",
    node: node!.id!,
    subject: "a".repeat(64),
    subjectName: "db",
    image: "postgres",
    network: "web",
    hostNames: ["db"],
  },
  { type: "network.create", name: "blue", encrypted: true },
  { type: "service.create", name: "secret", workload: process, replicas: 2, networks: ["blue"] },
  { type: "service.scale", name: "search", replicas: 2 },
  { type: "node.availability", name: "node3", availability: "drain" },
  { type: "settings.update", livenessMs: 20_000 },
  { type: "node.promote", name: "node3" },
  { type: "service.remove", name: "app" },
];
for (const command of commands) {
  await leader.execute(command);
  await cluster.settle();
}
third!.lose();
await cluster.clock.advance(3000);
await cluster.settle();

const { state } = leader;
const record = {
  protocol: PROTOCOL,
  nodeId: node!.id,
  request,
  lines,
  reports,
  seen: stateToJson(node!.state!),
  state: stateToJson(state),
};
console.log(JSON.stringify(record, null, 1));
