// What a service says of its names: aliases on each network, how long answers may be kept, and its labels.
import test from "ava";
import type { Change, Service } from "../../src/cluster/schema.ts";
import { Names } from "../../src/dns/names.ts";
import { applyChanges } from "../fakes/apply-changes.ts";
import { asking } from "./asking.ts";
import { exampleState, idOf, running, serviceRow, taskRow } from "./example-state.ts";

const WEB = idOf("web");
const BACK = idOf("back");
const LONG = `text=${"é".repeat(300)}`;

const put = (row: Service): Change => ({ kind: "services", key: row.id, row });
const state = applyChanges(
  exampleState,
  [
    put(
      serviceRow("store", {
        networks: [WEB, BACK],
        vips: { [WEB]: "10.192.16.40", [BACK]: "10.192.32.40" },
        aliases: { [WEB]: ["DB", "search"], [BACK]: ["backdb"] },
        dnsTtlSeconds: 120,
        labels: { tier: "data", "com.example.text": "a=b c", text: "é".repeat(300) },
        ports: [{ ...exampleState.services.get(idOf("search"))!.ports[0]!, published: 5432, target: 5432 }],
      }),
    ),
    put(
      serviceRow("replica", {
        networks: [WEB],
        endpointMode: "dnsrr",
        aliases: { [WEB]: ["db"] },
        dnsTtlSeconds: 0,
        ports: [{ ...exampleState.services.get(idOf("search"))!.ports[0]!, published: 6432, target: 6432 }],
      }),
    ),
    ...running(taskRow("replica", 1, { [WEB]: "10.192.16.41" })),
    ...running(taskRow("store", 1, { [WEB]: "10.192.16.42", [BACK]: "10.192.32.42" })),
  ],
  8,
);
const ask = asking(new Names(state));

/** Records as `TTL text`, sorted; the response code when there are none. */
function recordsOf(address: string, name: string, type: string): string[] {
  const answered = ask(address, name, type);
  if (answered === "forwarded") return [answered];
  const { answers = [], rcode } = answered;
  const records = answers.map((record) => {
    if (record.type === "TXT") return `${record.ttl} ${Buffer.concat(record.data as Buffer[]).toString()}`;
    if (record.type === "SRV") return `${record.ttl} ${record.data.port} ${record.data.target}`;
    return "ttl" in record && "data" in record ? `${record.ttl} ${String(record.data)}` : record.type;
  });
  return records.length === 0 ? [rcode] : records.sort();
}

const shell = "10.192.16.31"; // on web
const queue1 = "10.192.32.21"; // on back
const rows: [string, string, string, string, string[]][] = [
  ["an alias stands for the service", queue1, "backdb", "A", ["120 10.192.32.40"]],
  ["an alias is one network's", shell, "backdb", "A", ["NXDOMAIN"]],
  ["it is found before network and domain too", queue1, "BackDB.back.overlay", "A", ["120 10.192.32.40"]],
  ["several services share an alias, for the shorter time", shell, "db", "A", ["0 10.192.16.40", "0 10.192.16.41"]],
  ["an alias takes no other service's name", shell, "search", "A", ["5 10.192.16.2"]],
  ["nor its tasks'", shell, "tasks.search", "A", ["5 10.192.16.11", "5 10.192.16.12"]],
  ["the tasks of all who share an alias", shell, "tasks.db", "A", ["0 10.192.16.41", "0 10.192.16.42"]],
  ["before network and domain too", queue1, "Tasks.BackDB.back.overlay", "A", ["120 10.192.32.42"]],
  ["on the alias's network only", shell, "tasks.backdb", "A", ["NXDOMAIN"]],
  ["with the port of whose they are", shell, "_5432._tcp.tasks.db", "SRV", ["0 5432 store.1.web.overlay"]],
  [
    "an alias has its service's ports, and each port those who have it",
    shell,
    "_5432._tcp.db",
    "SRV",
    ["0 5432 store.web.overlay"],
  ],
  ["also the other's", shell, "_6432._tcp.db", "SRV", ["0 6432 replica.1.web.overlay"]],
  ["a service has not the ports of whom it shares an alias with", shell, "_6432._tcp.store", "SRV", ["NXDOMAIN"]],
  ["the TTL is its tasks' too", shell, "tasks.store", "A", ["120 10.192.16.42"]],
  ["the TTL is its slots' too", shell, "store.1", "A", ["120 10.192.16.42"]],
  ["the TTL is its reverse name's too", shell, "40.16.192.10.in-addr.arpa", "PTR", ["120 store.web.overlay"]],
  ["what is no service's has the default", shell, "1.16.192.10.in-addr.arpa", "PTR", ["5 gateway.web.overlay"]],
  [
    "labels are TXT, one record each, also long ones",
    shell,
    "store",
    "TXT",
    ["120 com.example.text=a=b c", `120 ${LONG}`, "120 tier=data"],
  ],
  [
    "an alias has its service's labels",
    queue1,
    "backdb.back",
    "TXT",
    ["120 com.example.text=a=b c", `120 ${LONG}`, "120 tier=data"],
  ],
  ["no labels, no TXT", shell, "replica", "TXT", ["NOERROR"]],
  ["TXT of nothing", shell, "nothing", "TXT", ["NXDOMAIN"]],
];
for (const [title, asker, name, type, expected] of rows) {
  test(`${title}: ${name} ${type}`, (t) => t.deepEqual(recordsOf(asker, name, type), expected));
}

test("a reverse name is never an alias", (t) => {
  t.deepEqual(recordsOf(queue1, "40.32.192.10.in-addr.arpa", "PTR"), ["120 store.back.overlay"]);
});
