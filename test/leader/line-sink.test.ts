// A node's link that is slower than its leader: the leader goes on, and holds a piece of the snapshot and not all of it.
import { once } from "node:events";
import { createServer, get, type IncomingMessage } from "node:http";
import type { AddressInfo } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import test from "ava";
import { PROTOCOL } from "../../src/cluster/features.ts";
import type { StreamMessage } from "../../src/cluster/protocol.ts";
import { LineSink } from "../../src/leader/line-sink.ts";
import { stream } from "../../src/lib/http.ts";
import { silentLog } from "../../src/lib/log.ts";
import { ClientConnections } from "../../src/trust/tls.ts";
import { joining } from "../fakes/founding.ts";
import { SecureManager } from "../fakes/secure-manager.ts";
import { DEADLINE_MS, waitFor } from "../system/command.ts";
import { Cluster } from "./cluster-fixture.ts";
import { FakeNode, identityOf } from "./fake-node.ts";

const LINE_BYTES = 1024 * 1024;
const LINES = 200;
/** More than the buffers of two sockets on one machine take. */
const MAX_AHEAD = 64;
/** Of what a slow reader takes at a time. */
const PIECE_BYTES = 4 * 1024 * 1024;

/** A sink over HTTP, and the other end of it, which has read nothing yet. */
async function connect() {
  let sink: LineSink | undefined;
  const server = createServer((_, response) => {
    sink = new LineSink(response, silentLog);
    sink.send(Buffer.from("first\n"));
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const request = get({ port: (server.address() as AddressInfo).port, host: "127.0.0.1" });
  const [response] = (await once(request, "response")) as [IncomingMessage];
  response.on("error", () => {}); // it may be cut off
  return { sink: sink!, response, end: () => server.close().closeAllConnections() };
}

test("a snapshot of 200 MB is encoded no further than a slow link takes it, and changes that come meanwhile follow it", async (t) => {
  const { sink, response, end } = await connect();
  let taken = 0;
  function* snapshot() {
    for (let i = 0; i < LINES; i++) {
      taken++;
      yield Buffer.alloc(LINE_BYTES, `${i}\n`.padStart(LINE_BYTES, "."));
    }
  }
  sink.sendSnapshot(snapshot());
  sink.send(Buffer.from("a change\n"));
  sink.send(Buffer.from("another\n"));
  let before = -1;
  await waitFor(
    () => {
      const isAtRest = taken === before;
      before = taken;
      return isAtRest;
    },
    { what: "the link to take no more" },
  );
  t.true(taken < MAX_AHEAD, `${taken} lines were taken from a link that brings nothing`);
  let rest = "";
  let bytes = 0;
  for await (const chunk of response as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    rest = (rest + chunk.toString()).slice(-100);
    if (rest.endsWith("another\n")) break;
  }
  t.is(taken, LINES);
  t.is(bytes, "first\n".length + LINES * LINE_BYTES + "a change\nanother\n".length);
  t.true(rest.endsWith(`.${LINES - 1}\na change\nanother\n`));
  end();
});

test("lines that come in quick succession go together, in their order, and a single one goes at once", async (t) => {
  const { sink, response, end } = await connect();
  const chunks: string[] = [];
  response.on("data", (chunk: Buffer) => chunks.push(chunk.toString()));
  const all = () => chunks.join("");
  await waitFor(() => all() === "first\n", { what: "the first line" });
  await delay(50);
  sink.send(Buffer.from("alone\n"));
  await waitFor(() => all().endsWith("alone\n"), { what: "a line that nothing follows" });
  chunks.length = 0;
  const lines = Array.from({ length: 1000 }, (_, i) => `line ${i}\n`);
  for (const line of lines) sink.send(Buffer.from(line));
  await waitFor(() => all() === lines.join(""), { what: "all lines in their order" });
  t.true(chunks.length < 50, `${chunks.length} pieces`);
  end();
});

test("a node that takes nothing while more and more changes is cut off, and what waited for it is dropped", async (t) => {
  const { sink, response, end } = await connect();
  let isEnded = false;
  function* snapshot() {
    try {
      for (;;) yield Buffer.alloc(LINE_BYTES);
    } finally {
      isEnded = true;
    }
  }
  sink.sendSnapshot(snapshot());
  for (let i = 0; i < 65; i++) sink.send(Buffer.alloc(LINE_BYTES));
  await waitFor(() => isEnded, { what: "the snapshot to be dropped" });
  response.resume();
  await waitFor(() => response.destroyed, { what: "the connection to end" });
  t.false(response.complete);
  end();
});

test("a node that loads 200 MB slowly holds neither the leader nor another node, and counts as alive meanwhile", async (t) => {
  const cluster = await Cluster.start(1);
  const labels = Object.fromEntries(Array.from({ length: 1000 }, (_, i) => [`label${i}`, "x".repeat(4096)]));
  for (let i = 0; i < 50; i++) {
    const workload = { runtime: "process" as const, command: ["true"] };
    await cluster.leader.execute({ type: "service.create", name: `s${i}`, workload, replicas: 0, labels });
  }
  await cluster.settle();
  const node2 = await cluster.leader.admit(joining(identityOf(2)));
  const manager = await SecureManager.start(cluster.leader, { clock: cluster.clock });
  t.teardown(() => manager.close());
  const { address } = manager;
  const connections = new ClientConnections(await manager.credentialsOf(node2), { role: "manager" });
  t.teardown(() => connections.close());
  const body = { ...identityOf(2), known: null, protocol: PROTOCOL };
  const asked = { method: "POST", path: "/v1/sessions", body, timeoutMs: DEADLINE_MS } as const;
  const bytes = await stream({ address, agent: connections.agent }, asked);
  const chunks: Buffer[] = [];
  /** What has come since; a chunk at a time, so that the link is as slow as the reader. */
  const read = async (until: RegExp) => {
    for (let ahead = 0; !until.test(String(chunks.slice(-2).join(""))); ) {
      const chunk = bytes.read() as Buffer | null;
      if (chunk === null) {
        await once(bytes, "readable");
        continue;
      }
      chunks.push(chunk);
      ahead += chunk.length;
      if (ahead < PIECE_BYTES) continue;
      ahead = 0;
      // All pieces together take many times the time after which a silent node is lost.
      await cluster.clock.advance(1000);
      await cluster.settle();
    }
  };
  await read(/"type":"snapshot"/);
  const { revision } = await cluster.leader.execute({ type: "network.create", name: "meanwhile" });
  t.deepEqual(await waitAll(cluster, revision), ["node1", "node2"]);
  await cluster.settle();
  t.is(cluster.nodes[0]!.state!.revision, revision);
  await read(/"type":"changes"[^\n]*\n/);
  t.is(cluster.node("node2").state, "ready");
  const lines = Buffer.concat(chunks).toString().split("\n").slice(0, -1); // what follows the last may be cut
  const seen = lines.map((line) => JSON.parse(line) as StreamMessage);
  const rows = seen.flatMap((line) => (line.type === "rows" ? line.rows : []));
  const head = seen.find((line) => line.type === "snapshot")!;
  t.is(rows.length, head.rows);
});

async function waitAll(cluster: Cluster, revision: number): Promise<string[]> {
  const waiting = cluster.leader.waitApplied(revision, 1);
  await cluster.clock.advance(1);
  return waiting;
}

test("revisions that hold nothing for nodes are not sent, and nodes that have all that was sent lack nothing of them", async (t) => {
  const cluster = await Cluster.start(2);
  const node = cluster.nodes[0]!.id!;
  const { id } = await cluster.leader.execute({ type: "endpoint.create", node, network: "default" });
  await cluster.settle();
  await cluster.leader.execute({ type: "endpoint.remove", id });
  const { state } = cluster.leader;
  const removal = state.revision;
  await cluster.settle();
  t.true(cluster.leader.state.revision > removal, "the address was freed by a revision of its own");
  t.is(cluster.nodes[0]!.state!.revision, removal);
  t.deepEqual(await cluster.leader.waitApplied(cluster.leader.state.revision, 0), []);
  t.is(cluster.nodes[0]!.state!.allocations.size + cluster.nodes[0]!.state!.ports.size, 0);
  const { revision } = await cluster.leader.execute({
    type: "node.availability",
    name: "node1",
    availability: "active",
  });
  t.is(revision, removal, "a command that changes nothing names a revision that nodes have");
  const late = new FakeNode(identityOf(3));
  await late.join(cluster.leader);
  await cluster.leader.execute({ type: "network.create", name: "web" });
  t.is(late.state!.revision, cluster.leader.state.revision);
  t.is(cluster.nodes[0]!.state!.revision, cluster.leader.state.revision);
});
