// Every field of a service has an option that sets it, or is named here with the reason: the tables of options against
// the schema, and what each option sends against what the leader takes.
import test from "ava";
import { Command as Program } from "commander";
import { z } from "zod";
import { addRequestOptions, longName, requestOf } from "../../src/cli/request-options.ts";
import { serviceRequest } from "../../src/cli/service-create.ts";
import { CONTAINER_OPTIONS, SERVICE_OPTIONS, WORKLOAD_OPTIONS } from "../../src/cli/service-options.ts";
import { Command } from "../../src/cluster/commands.ts";
import { Service } from "../../src/cluster/schema.ts";
import { Workload } from "../../src/cluster/workload.ts";
import { check } from "../../src/lib/check.ts";

const ROWS = [...SERVICE_OPTIONS, ...WORKLOAD_OPTIONS, ...CONTAINER_OPTIONS];

/** Fields of the request that arguments set. */
const BY_ARGUMENT: Record<string, string> = {
  "workload.runtime": "--runtime, or whether -- stands before the command",
  "workload.image": "IMAGE",
  "workload.command": "COMMAND",
};
/** Fields of a service that no request sets. */
const BY_LEADER: Record<string, string> = {
  id: "the leader chooses it",
  aliases: "--network name=NETWORK,alias=NAME",
  vips: "the leader allocates them",
  meshVip: "the leader allocates it",
  hostVip: "the leader allocates it",
  createdAt: "the leader's clock",
  updatedAt: "the leader's clock",
};
/** Fields of a request that no service has. */
const OF_REQUEST_ONLY = ["type", "proxyProtocol"];

/** The schema within optional, nullable, default and transformed ones. */
function within(schema: z.ZodType): z.ZodType {
  const { def } = schema as unknown as { def: { innerType?: z.ZodType; in?: z.ZodType } };
  const inner = def.innerType ?? def.in;
  return inner === undefined ? schema : within(inner);
}

/** The paths of all fields; those of an object within are each their own. */
function fieldsOf(outer: z.ZodType, prefix = ""): string[] {
  const schema = within(outer);
  if (schema instanceof z.ZodObject) {
    return Object.entries(schema.shape).flatMap(([key, field]) =>
      fieldsOf(field as z.ZodType, prefix === "" ? key : `${prefix}.${key}`),
    );
  }
  if (schema instanceof z.ZodDiscriminatedUnion) {
    return [...new Set(schema.options.flatMap((option) => fieldsOf(option as z.ZodType, prefix)))];
  }
  return [prefix];
}

const create = Command.options.find((option) => option.shape.type.value === "service.create")!;
const requestFields = fieldsOf(create).filter((field) => field !== "type");

test("every field of the request has an option or an argument", (t) => {
  const set = [...new Set([...ROWS.map(({ field }) => field as string), ...Object.keys(BY_ARGUMENT)])];
  t.deepEqual(set.sort(), requestFields.sort());
});

test("every field of a service has an option, or is the leader's", (t) => {
  const asked = Object.keys(create.shape).filter((field) => !OF_REQUEST_ONLY.includes(field));
  t.deepEqual([...asked, ...Object.keys(BY_LEADER)].sort(), Object.keys(Service.shape).sort());
});

test("options of a container only are those that a process's workload has not", (t) => {
  const [process, container] = Workload.options.map((option) => fieldsOf(option).map((field) => `workload.${field}`));
  const only = container!.filter((field) => !process!.includes(field) && BY_ARGUMENT[field] === undefined);
  t.deepEqual(CONTAINER_OPTIONS.map(({ field }) => field as string).sort(), only.sort());
});

/** The text of each option, and what the leader then makes of its field. */
const texts: Record<string, [text: string, value: unknown]> = {
  "--name": ["web", "web"],
  "--replicas": ["3", 3],
  "--publish": ["80:8080", [{ published: 80, target: 8080, protocol: "tcp", mode: "ingress", address: null }]],
  "--ingress-source-nat": ["", true],
  "--stop-grace": ["30s", 30_000],
  "--network": ["name=back,alias=db", [{ name: "back", aliases: ["db"] }]],
  "--dns-ttl": ["2m", 120],
  "--label": ["a=1", { a: "1" }],
  "--constraint": ["node.name==node1", ["node.name==node1"]],
  "--endpoint-mode": ["dnsrr", "dnsrr"],
  "--scheduler": ["maglev", "maglev"],
  "--weight": ["node1=3", { node1: 3 }],
  "--affinity": ["client-ip", "client-ip"],
  "--affinity-timeout": ["2m", 120],
  "--locality": ["prefer-local", "prefer-local"],
  "--env-file": ["", {}],
  "--env": ["A=1", { A: "1" }],
  "--workdir": ["/srv", "/srv"],
  "--stop-grace-period": ["45s", 45_000],
  "--hostname": ["db", "db"],
  "--add-host": ["a:192.0.2.1", [{ name: "a", address: "192.0.2.1" }]],
  "--host": ["a:192.0.2.1", [{ name: "a", address: "192.0.2.1" }]],
  "--dns": ["192.0.2.53", ["192.0.2.53"]],
  "--dns-search": ["example.com", ["example.com"]],
  "--dns-option": ["rotate", ["rotate"]],
  "--container-label": ["a=1", { a: "1" }],
  "--mount": [
    "type=tmpfs,target=/t",
    [{ type: "tmpfs", source: null, target: "/t", readOnly: false, sizeBytes: null }],
  ],
  "--limit-memory": ["512m", 512 * 1024 * 1024],
  "--limit-cpu": ["0.5", 0.5],
  "--user": ["nobody", "nobody"],
  "--entrypoint": ["sh -c", ["sh", "-c"]],
  "--init": ["", true],
  "--cap-add": ["NET_ADMIN", ["NET_ADMIN"]],
};
/** Options whose value is not their text alone: overlayctl.test.ts has them. */
const ELSEWHERE = ["--proxy-protocol", "--env-file", "--with-registry-auth"];

for (const row of ROWS) {
  const flag = longName(row);
  if (ELSEWHERE.includes(flag)) continue;
  test(`the leader takes what ${flag} sends as ${row.field}`, (t) => {
    const [text, value] = texts[flag]!;
    const program = addRequestOptions(new Program(), ROWS).exitOverride();
    program.parse(["--name", "web", flag, ...(text === "" ? [] : [text])], { from: "user" });
    const request = serviceRequest(["app:1"], { ...program.opts(), runtime: "docker" });
    const command = check(Command, { type: "service.create", ...request }) as object;
    const found = row.field.split(".").reduce<unknown>((at, key) => (at as Record<string, unknown>)[key], command);
    t.deepEqual(found, value);
  });
}

test("several options for one field are put together, what the command line says last", (t) => {
  const rows = [
    { flags: "--file <text>", help: "", field: "a.b", read: (text: string) => [["k", text]], several: "map" },
    { flags: "--entry <text>", help: "", field: "a.b", read: (text: string) => [text.split("=")], several: "map" },
    { flags: "--one <text>", help: "", field: "list", several: "list" },
    { flags: "--two <text>", help: "", field: "list", several: "list" },
  ] as const;
  const program = addRequestOptions(new Program(), rows).exitOverride();
  program.parse("--entry k=2 --file 1 --entry l=3 --two b --one a --two c".split(" "), { from: "user" });
  t.deepEqual(requestOf(rows, program.opts()), { a: { b: { k: "2", l: "3" } }, list: ["a", "b", "c"] });
});
