// overlayctl attach, detach and endpoint ls, before a backend that writes down what it is asked.
import test, { type ExecutionContext } from "ava";
import { ApiClient } from "../../src/api/client.ts";
import type { EndpointView } from "../../src/api/schema.ts";
import { createProgram } from "../../src/cli/program.ts";
import type { Change } from "../../src/cluster/schema.ts";
import { messageOf, UserError } from "../../src/lib/errors.ts";
import {
  FakeBackend,
  id,
  networkRow,
  nodeRow,
  put,
  served,
  serviceRow,
  statusRow,
  taskRow,
} from "../api/fake-backend.ts";

const attachment = { subject: "a".repeat(64), name: "db-1", image: "postgres:16", aliases: ["db"], hostNames: [] };

function cluster(): FakeBackend {
  const attached = taskRow("search", 2, "node2", { attachment });
  const place = { nodeId: id("node1"), networkId: id("web"), address: "10.192.32.20" };
  const endpoint: Change = {
    kind: "endpoints",
    key: id("shell"),
    row: { id: id("shell"), name: "shell", ...place, attachment: null, external: null, createdAt: 0 },
  };
  return new FakeBackend([
    put.node(nodeRow("node1")),
    put.node(nodeRow("node2")),
    put.network(networkRow("web")),
    put.service(serviceRow("search")),
    put.task(taskRow("search", 1, "node1")),
    put.task(attached),
    put.status(statusRow(attached, "running")),
    endpoint,
  ]);
}

async function overlayctl(t: ExecutionContext, backend: FakeBackend, args: readonly string[]) {
  const socket = await served(t, backend);
  let out = "";
  let err = "";
  const context = {
    api: () => new ApiClient(socket),
    out: (text: string) => {
      out += text;
    },
    err: (text: string) => {
      err += text;
    },
    columns: () => undefined,
    now: () => 0,
    monotonic: () => 0,
    pause: async () => {},
    onInterrupt: () => () => {},
  };
  try {
    await (await createProgram(args, context, () => {})).parseAsync(args, { from: "user" });
  } catch (error) {
    err += messageOf(error);
  }
  return { out, err };
}

test("attach asks for what its options say, and prints the address", async (t) => {
  const backend = cluster();
  const options = "--network web --alias a --alias b --ip 10.192.32.78 --service search -p 9200:9200 -p 53:5353/udp";
  const { out, err } = await overlayctl(t, backend, ["attach", "db-1", ...options.split(" ")]);
  t.deepEqual([out, err], ["10.192.32.78\n", ""]);
  t.deepEqual(backend.attached, [
    {
      subject: "db-1",
      network: "web",
      name: null,
      aliases: ["a", "b"],
      address: "10.192.32.78",
      service: "search",
      ports: [
        { published: 9200, target: 9200, protocol: "tcp", mode: "ingress", address: null },
        { published: 53, target: 5353, protocol: "udp", mode: "ingress", address: null },
      ],
    },
  ]);
});

test("attach says what a person should know of the service's ports", async (t) => {
  const backend = cluster();
  const service = [...backend.state().services.values()].find(({ name }) => name === "search")!;
  const ports = [{ published: 80, target: 80, protocol: "tcp", mode: "ingress", address: "10.9.9.9" } as const];
  backend.change(put.service({ ...service, ports: [...ports] }));
  const { out, err } = await overlayctl(t, backend, ["attach", "db-1", "--service", "search"]);
  t.is(out, "10.192.32.78\n");
  t.regex(err, /^search: no node answers 10\.9\.9\.9:80\/tcp/);
});

test("attach without options leaves the choice to the cluster", async (t) => {
  const backend = cluster();
  await overlayctl(t, backend, ["attach", "db-1", "--name", "db"]);
  const nothing = { network: null, address: null, service: null };
  t.deepEqual(backend.attached, [{ subject: "db-1", ...nothing, name: "db", aliases: [], ports: [] }]);
});

test("detach takes several, off one network or all", async (t) => {
  const backend = cluster();
  t.is((await overlayctl(t, backend, ["detach", "a", "b"])).out, "a\nb\n");
  await overlayctl(t, backend, ["detach", "a", "--network", "web"]);
  t.deepEqual(backend.detached, [
    { subject: "a", network: null },
    { subject: "b", network: null },
    { subject: "a", network: "web" },
  ]);
});

test("endpoint add and rm ask for what their options say", async (t) => {
  const backend = cluster();
  const options = "--network web --name printer --ip 10.192.32.50 --mac 00:1b:21:0a:0b:0c --vtep 192.0.2.50:8472";
  const added = await overlayctl(t, backend, ["endpoint", "add", ...options.split(" ")]);
  t.is(added.err, "");
  await overlayctl(t, backend, ["endpoint", "rm", "printer"]);
  t.deepEqual(backend.commands, [
    {
      ...{ type: "external.add", network: "web", name: "printer", address: "10.192.32.50" },
      ...{ mac: "00:1b:21:0a:0b:0c", vtep: "192.0.2.50", port: 8472 },
    },
    { type: "external.remove", name: "printer" },
  ]);
});

test("what the agent refuses is said", async (t) => {
  const backend = cluster();
  backend.refusal = new UserError(404, "there is no network namespace 'x', and no container");
  t.regex((await overlayctl(t, backend, ["attach", "x"])).err, /there is no network namespace 'x', and no container/);
  t.regex((await overlayctl(t, backend, ["detach", "x"])).err, /there is no network namespace 'x'/);
});

const wrong: [args: string, says: RegExp][] = [
  ["attach", /missing required argument 'container'/],
  ["attach x --netwrok web", /unknown option '--netwrok'\n\(Did you mean --network\?\)/],
  ["attach x -p 70000:80", /'70000' is not a port from 1 to 65535/],
  ["endpoint add --network web --ip 10.0.0.1", /required option '--mac <address>' not specified/],
  ["endpoint add --network web --ip 1.1.1.1 --mac x --vtep 1.1.1.1:x", /a whole number, 0 or more, is needed/],
  ["endpoint lss", /unknown command 'lss'/],
];
for (const [args, says] of wrong) {
  test(`a wrong call is explained: overlayctl ${args}`, async (t) => {
    t.regex((await overlayctl(t, cluster(), args.split(" "))).err, says);
  });
}

const listings: [args: string, printed: RegExp][] = [
  ["-q", /^([0-9a-z]{12}\n){3}$/],
  ["-q --no-trunc", /^([0-9a-z]{25}\n){3}$/],
  ["-q --filter node=node2", /^[0-9a-z]{12}\n$/],
  ["--filter name=app --no-trunc", /^ID .*\n- +app +app:1 .*"there is no network 'wbe'"\n$/],
  ["--filter service=nobody", /^ID .*\n$/],
];
for (const [args, printed] of listings) {
  test(`endpoint ls ${args}`, async (t) => {
    t.regex((await overlayctl(t, cluster(), ["endpoint", "ls", ...args.split(" ")])).out, printed);
  });
}

test("endpoint ls lists tasks, sandboxes, what was attached, and what was refused with the reason", async (t) => {
  const { out } = await overlayctl(t, cluster(), ["endpoint", "ls"]);
  const rows = out
    .trimEnd()
    .split("\n")
    .map((line) => line.split(/ {2,}/).slice(1));
  t.deepEqual(rows[0], ["NAME", "IMAGE", "NETWORK", "ADDRESS", "NODE", "SERVICE", "STATE", "ERROR"]);
  t.deepEqual(
    rows.slice(1).map((row) => row.filter((cell) => cell !== "")),
    [
      ["search.1", "web", "10.192.32.11", "node1", "search"],
      ["db-1", "postgres:16", "web", "10.192.32.12", "node2", "search", "Running"],
      ["shell", "web", "10.192.32.20", "node1"],
      ["app", "app:1", "node1", "Rejected", `"there is no network 'wbe'"`],
    ],
  );
});

test("endpoint ls prints JSON, with what each is", async (t) => {
  const { out } = await overlayctl(t, cluster(), ["endpoint", "ls", "--json"]);
  t.deepEqual(
    (JSON.parse(out) as EndpointView[]).map(({ kind }) => kind),
    ["task", "attached", "run", "refused"],
  );
});
