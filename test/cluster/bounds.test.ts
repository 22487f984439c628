// Every string, list and map that nodes and clients send has a bound, however deep it is.
import test from "ava";
import { z } from "zod";
import * as api from "../../src/api/schema.ts";
import { Command } from "../../src/cluster/commands.ts";
import { LogQuery, LogRefusal, Report, SessionRequest } from "../../src/cluster/protocol.ts";
import type { NodeRow } from "../../src/datapath/rows.ts";
import { words } from "../../src/lib/bounds.ts";
import { ipv4 } from "../../src/lib/ip.ts";
import { compileTables } from "../fakes/compile-tables.ts";
import { openSession } from "../fakes/founding.ts";
import { Cluster } from "../leader/cluster-fixture.ts";
import { deafSink } from "../leader/fake-node.ts";

function hasMaximum({ _zod: { def } }: z.ZodString | z.ZodArray): boolean {
  return (def.checks ?? []).some((check) => check._zod.def.check === "max_length");
}

/** The paths of fields without a bound. A transformation bounds what comes out: see `words`. */
function unbounded(schema: z.ZodType, path: string): string[] {
  if (schema instanceof z.ZodString) {
    return hasMaximum(schema) ? [] : [path];
  }
  if (schema instanceof z.ZodArray) {
    const own = hasMaximum(schema) ? [] : [`${path}[]`];
    return [...own, ...unbounded(schema.element as z.ZodType, `${path}[]`)];
  }
  if (schema instanceof z.ZodRecord) {
    const own = (schema._zod.def.checks ?? []).length === 0 ? [`${path}{}`] : [];
    const { keyType, valueType } = schema._zod.def;
    return [
      ...own,
      ...unbounded(keyType as z.ZodType, `${path}{key}`),
      ...unbounded(valueType as z.ZodType, `${path}{}`),
    ];
  }
  if (schema instanceof z.ZodObject) {
    return Object.entries(schema.shape).flatMap(([key, value]) => unbounded(value as z.ZodType, `${path}.${key}`));
  }
  if (schema instanceof z.ZodUnion) {
    return schema.options.flatMap((option, i) => unbounded(option as z.ZodType, `${path}|${i}`));
  }
  if (schema instanceof z.ZodCodec) return []; // a few words, such as "true"
  if (schema instanceof z.ZodPipe) {
    const { in: from, out } = schema._zod.def;
    if (!(out instanceof z.ZodTransform)) return [from, out].flatMap((part) => unbounded(part as z.ZodType, path));
    // The list is cut off; its items still need bounds.
    if (from instanceof z.ZodString) return [];
    return unbounded(from as z.ZodType, path).filter((where) => where !== `${path}[]`);
  }
  if (schema instanceof z.ZodOptional || schema instanceof z.ZodNullable || schema instanceof z.ZodDefault) {
    return unbounded(schema._zod.def.innerType as z.ZodType, path);
  }
  return [];
}

const exported: Record<string, unknown> = { Command, Report, SessionRequest, LogQuery, LogRefusal, ...api };
const schemas = Object.entries(exported).flatMap(([name, value]) =>
  value instanceof z.ZodType ? [[name, value] as const] : [],
);

test("nothing that a node or a client sends is without a bound", (t) => {
  t.true(schemas.length > 10);
  t.deepEqual(
    schemas.flatMap(([name, schema]) => unbounded(schema, name)),
    [],
  );
  const sample = z.object({ a: z.array(z.string()), b: z.record(z.string(), z.string()).optional() });
  t.deepEqual(unbounded(sample, "x"), ["x.a[]", "x.a[]", "x.b{}", "x.b{key}", "x.b{}"]);
});

test("a node that says too much is cut short, and what else it says counts", async (t) => {
  const cluster = await Cluster.start(1);
  const workload = { runtime: "process" as const, command: ["true"] };
  await cluster.leader.execute({ type: "service.create", name: "s", workload });
  await cluster.settle();
  const [task] = cluster.tasks("s");
  const session = await openSession(cluster.leader, cluster.nodes[0]!.identity, deafSink);
  const long = "x".repeat(1_000_000);
  const status = { taskId: task!.id, nodeId: task!.nodeId!, since: 0, exitCode: null, restarts: 0 };
  await cluster.leader.sessions.report(session, {
    statuses: [{ ...status, state: "failed", error: long, message: long }],
    full: true,
    gone: [],
    applied: 0,
    addresses: Array.from({ length: 60_000 }, (_, i) => `198.18.${i >> 8}.${i & 255}`),
  });
  const { error, message, state } = cluster.leader.state.statuses.get(task!.id)!;
  t.is(state, "failed");
  t.true(error!.length <= 1000 && message!.length <= 1000);
  t.true(cluster.node("node1").addresses.length <= 4096);
  t.is(words(3).parse("abcd"), "ab…");
});

test("a node holds ports on its own addresses alone, which are no other node's", async (t) => {
  const cluster = await Cluster.start(2);
  const session = await openSession(cluster.leader, cluster.nodes[0]!.identity, deafSink);
  const held = (address: string) => ({ port: 9200, protocol: "tcp" as const, address });
  await cluster.leader.sessions.report(session, {
    statuses: [],
    full: true,
    gone: [],
    applied: 0,
    addresses: ["192.0.2.11", "172.17.0.1", "192.0.2.12"],
    heldPorts: ["0.0.0.0", "192.0.2.11", "172.17.0.1", "192.0.2.12", "203.0.113.1"].map(held),
  });
  t.deepEqual(cluster.node("node1").addresses, ["192.0.2.11", "172.17.0.1"]);
  t.deepEqual(
    cluster.node("node1").heldPorts.map(({ address }) => address),
    ["0.0.0.0", "192.0.2.11", "172.17.0.1"],
  );
});

const MANAGEMENT = "198.51.100.1";
const HELD_ELSEWHERE: [title: string, onNode1: string[], onNode2: string[], isHeld: boolean][] = [
  ["the only node that has the address holds it", [MANAGEMENT], [], true],
  ["a node says that another node's second address is its own", [], [MANAGEMENT], false],
  ["every node that has an anycast address holds it", [MANAGEMENT], [MANAGEMENT], true],
  ["one of them holds it on every address", [MANAGEMENT], ["0.0.0.0"], true],
  ["one of them holds it elsewhere", [MANAGEMENT], ["192.0.2.12"], false],
];
for (const [title, onNode1, onNode2, isHeld] of HELD_ELSEWHERE) {
  test(`a port on an address is ${isHeld ? "" : "not "}held for other nodes: ${title}`, async (t) => {
    const cluster = await Cluster.start(3);
    const holders = title.startsWith("the only") ? [onNode1] : [onNode1, onNode2];
    for (const [i, held] of holders.entries()) {
      const session = await openSession(cluster.leader, cluster.nodes[i]!.identity, deafSink);
      await cluster.leader.sessions.report(session, {
        ...{ statuses: [], full: true, gone: [], applied: 0, addresses: [MANAGEMENT] },
        heldPorts: held.map((address) => ({ port: 9200, protocol: "tcp", address })),
      });
    }
    const rows = compileTables(cluster.leader.state, {
      ...{ nodeId: cluster.node("node3").id, pool: "10.192.0.0/10", hostAddresses: ["192.0.2.13"], mtu: 1450 },
      ...{ meshOn: true, heldPorts: [], managers: [], nodeServices: true, isProvisional: false },
    });
    const [node] = [...rows.values()].filter((row) => row.kind === "node") as NodeRow[];
    t.is(
      node!.heldPorts.some(({ address, port }) => address === ipv4(MANAGEMENT) && port === 9200),
      isHeld,
    );
  });
}
