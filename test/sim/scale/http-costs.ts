// What the leader's HTTP server costs beside the leader itself: the real server on loopback with a leader that does
// nothing, and clients in another thread, whose time does not count. The kernel's work for the sockets is included.
import { setTimeout as delay } from "node:timers/promises";
import { Worker } from "node:worker_threads";
import { encodeLine } from "../../../src/cluster/protocol.ts";
import { Node } from "../../../src/cluster/schema.ts";
import { emptyState } from "../../../src/cluster/state.ts";
import type { State } from "../../../src/cluster/tables.ts";
import type { Leader } from "../../../src/leader/leader.ts";
import type { SessionSink } from "../../../src/leader/sessions.ts";
import { systemClock } from "../../../src/lib/clock.ts";
import { SecureManager } from "../../fakes/secure-manager.ts";
import { settle, threadMilliseconds } from "./thread-time.ts";

/** Processor milliseconds of the leader's thread. */
export interface HttpCosts {
  /** To take one report. */
  reportMs: number;
  /** To take one beat. */
  beatMs: number;
  /** To take a new connection, and a request on it. */
  connectMs: number;
  /** To send one line to one node. */
  lineMs: number;
}

const SESSIONS = 100;
const LINES = 30;
/** Lines that follow each other sooner may go together, for less. */
const APART_MS = 20;
/** About as long as the line of a change. */
const LINE = encodeLine({ type: "log", requestId: "r".repeat(25), taskId: "t".repeat(700), query: anyQuery() });

/** The clients' node. Its sessions are all counted as its own. */
const NODE = Node.parse({
  ...{
    id: "n".repeat(25),
    name: "node1",
    address: "192.0.2.11",
    vxlanPort: 4789,
    sealed: null,
    ingressAddress: "10.192.0.2",
  },
  ...{ manager: true, role: "manager", availability: "active", state: "ready", createdAt: 0 },
});

/** The clients: first all reports, then beats on requests of their own, then sessions whose streams are thrown away. */
const CLIENTS = `
  const { parentPort, workerData: { port, reports, sessions, tls } } = require("node:worker_threads");
  const { Agent, request } = require("node:https");
  const secure = { ...tls, checkServerIdentity: () => undefined, keepAlive: true };
  const agent = new Agent({ ...secure, maxSockets: 50 });
  const body = JSON.stringify({ seq: 1, statuses: [], full: false, gone: [], heldPorts: [], addresses: ["192.0.2.11"], docker: null, applied: 7 });
  const headers = { "content-type": "application/json" };
  const post = (path, agent, done) =>
    request({ host: "127.0.0.1", port, path, method: "POST", headers, agent }, done).end(body);
  let left = reports;
  for (let i = 0; i < reports; i++)
    post("/v1/sessions/" + "s".repeat(25) + "/report", agent, (response) => {
      if (response.statusCode !== 204) throw new Error("status " + response.statusCode);
      response.resume().on("end", () => --left === 0 && parentPort.postMessage("reported"));
    });
  const beat = () => beating.forEach((request) => request.write("7\\n"));
  let beating = [];
  parentPort.on("message", (what) => {
    if (what === "begin beats") {
      const headers = { "content-type": "application/octet-stream" };
      const path = "/v1/sessions/" + "s".repeat(25) + "/beats";
      beating = Array.from({ length: sessions }, () =>
        request({ host: "127.0.0.1", port, path, method: "POST", headers, agent: new Agent(secure) }).on("error", () => {}));
      return beat();
    }
    if (what === "beat") return beat();
    for (let i = 0; i < sessions; i++) post("/v1/sessions", new Agent(secure), (response) => response.resume().on("error", () => {}));
  });
`;

export async function measureHttp(reports: number): Promise<HttpCosts> {
  const sinks: SessionSink[] = [];
  let whenOpen = (): void => {};
  let beats = 0;
  const sessions = {
    report: async () => {},
    open: async (_peer: unknown, _request: unknown, sink: SessionSink) => {
      sinks.push(sink);
      sink.send(LINE); // a stream begins with its first line
      if (sinks.length === SESSIONS) whenOpen();
      return "s".repeat(25);
    },
    close: () => {},
    beat: () => void beats++,
    nodeOf: () => NODE.id,
  };
  const idle = { sessions, state: stateOf(NODE), requireCluster: () => {} } as unknown as Leader;
  const server = await SecureManager.start(idle, { clock: systemClock });
  const { certificate: cert, key, bundle } = await server.credentialsOf(NODE);
  const workerData = { port: server.port, reports, sessions: SESSIONS, tls: { cert, key, ca: bundle.join("\n") } };
  let before = threadMilliseconds();
  const clients = new Worker(CLIENTS, { eval: true, workerData });
  try {
    await new Promise((resolve, reject) => clients.once("message", resolve).once("error", reject));
    const reportMs = (threadMilliseconds() - before) / reports;
    before = threadMilliseconds();
    clients.postMessage("begin beats");
    while (beats < SESSIONS) await delay(APART_MS);
    const connectMs = (threadMilliseconds() - before) / SESSIONS;
    before = threadMilliseconds();
    for (let i = 0; i < LINES; i++) {
      clients.postMessage("beat");
      await delay(APART_MS);
    }
    while (beats < SESSIONS * (1 + LINES)) await delay(APART_MS);
    const beatMs = (threadMilliseconds() - before) / (SESSIONS * LINES);
    const allOpen = new Promise<void>((resolve) => {
      whenOpen = resolve;
    });
    clients.postMessage("open");
    await allOpen;
    before = threadMilliseconds();
    for (let i = 0; i < LINES; i++) {
      for (const sink of sinks) sink.send(LINE);
      await delay(APART_MS);
    }
    await settle();
    return { reportMs, beatMs, connectMs, lineMs: (threadMilliseconds() - before) / (SESSIONS * LINES) };
  } finally {
    for (const sink of sinks) sink.close();
    await clients.terminate();
    await server.close();
  }
}

function stateOf(node: Node): State {
  const state = emptyState();
  state.cluster = { id: "c".repeat(25), epoch: 1 };
  state.apply([{ kind: "nodes", key: node.id, row: node }], 1);
  return state;
}

function anyQuery(): { follow: boolean; tail: number | null; since: number | null } {
  return { follow: false, tail: null, since: null };
}
