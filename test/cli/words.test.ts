// Durations, sizes, commands, tables and the words of options: each by rows.
import test from "ava";
import { InvalidArgumentError } from "commander";
import type { PortView } from "../../src/api/schema.ts";
import {
  collect,
  count,
  duration,
  publishedPorts,
  scaling,
  seconds,
  serviceNetwork,
  variable,
} from "../../src/cli/arguments.ts";
import {
  formatAgo,
  formatBytes,
  formatCommand,
  formatDuration,
  formatError,
  formatPorts,
  shortId,
} from "../../src/cli/format.ts";
import { formatTable } from "../../src/cli/table.ts";

const SECOND = 1000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

const durations: [ms: number, text: string][] = [
  [0, "Less than a second"],
  [999, "Less than a second"],
  [SECOND, "1 second"],
  [2 * SECOND, "2 seconds"],
  [MINUTE - 1, "59 seconds"],
  [MINUTE, "About a minute"],
  [2 * MINUTE - 1, "About a minute"],
  [2 * MINUTE, "2 minutes"],
  [HOUR - 1, "59 minutes"],
  [HOUR, "About an hour"],
  [1.4 * HOUR, "About an hour"],
  [1.5 * HOUR, "2 hours"],
  [3 * HOUR, "3 hours"],
  [47 * HOUR, "47 hours"],
  [48 * HOUR, "2 days"],
  [13 * DAY, "13 days"],
  [14 * DAY, "2 weeks"],
  [59 * DAY, "8 weeks"],
  [60 * DAY, "2 months"],
  [729 * DAY, "24 months"],
  [730 * DAY, "2 years"],
  [3 * 365 * DAY, "3 years"],
];
for (const [ms, text] of durations) test(`${ms} ms are '${text}'`, (t) => t.is(formatDuration(ms), text));

test("a time in the future is now", (t) => t.is(formatAgo(5000, 1000), "Less than a second ago"));

const sizes: [bytes: number, text: string][] = [
  [0, "0B"],
  [999, "999B"],
  [1000, "1kB"],
  [1536, "1.536kB"],
  [1_234_567, "1.235MB"],
  [999_950_000, "1000MB"],
  [5e9, "5GB"],
];
for (const [bytes, text] of sizes) test(`${bytes} bytes are '${text}'`, (t) => t.is(formatBytes(bytes), text));

const commands: [command: string[], truncate: boolean, text: string][] = [
  [["sleep", "60"], true, "sleep 60"],
  [["sh", "-c", "echo a b"], true, "sh -c 'echo a b'"],
  [["echo", "it's"], true, "echo 'it'\\''s'"],
  [["echo", ""], true, "echo ''"],
  [["node", "/srv/configs/search-server.js"], true, "node /srv/configs/search-serv…"],
  [["node", "/srv/configs/search-server.js"], false, "node /srv/configs/search-server.js"],
];
for (const [command, truncate, text] of commands) {
  test(`a command is shown as ${text}`, (t) => t.is(formatCommand(command, truncate), text));
}

test("ports are shown as Docker shows them", (t) => {
  t.is(
    formatPorts([
      { published: 9200, target: 80, protocol: "tcp", mode: "ingress", address: null },
      { published: 53, target: 53, protocol: "udp", mode: "host", address: "10.0.0.1" },
    ]),
    "*:9200->80/tcp, 10.0.0.1:53->53/udp",
  );
  t.is(formatPorts([]), "");
});

test("ids are cut to twelve characters", (t) => {
  t.is(shortId("0123456789abcdefghijklmno", true), "0123456789ab");
  t.is(shortId("0123456789abcdefghijklmno", false), "0123456789abcdefghijklmno");
});

const columns = [
  { header: "ID", value: (row: string[]) => row[0]! },
  { header: "NAME", value: (row: string[]) => row[1]! },
  { header: "ERROR", value: (row: string[]) => row[2]! },
];
const tables: [name: string, rows: string[][], text: string][] = [
  ["no rows", [], "ID        NAME      ERROR\n"],
  ["short cells", [["1", "web", "no"]], "ID        NAME      ERROR\n1         web       no\n"],
  [
    "a long cell widens its column",
    [
      ["1", "a-long-name", "no"],
      ["2", "b", "yes"],
    ],
    "ID        NAME          ERROR\n1         a-long-name   no\n2         b             yes\n",
  ],
  ["an empty last cell leaves no blanks", [["1", "web", ""]], "ID        NAME      ERROR\n1         web\n"],
  [
    "a cell of several lines stays one row",
    [["1", "web", "a\n  b\n"]],
    "ID        NAME      ERROR\n1         web       a b\n",
  ],
];
for (const [name, rows, text] of tables) test(`a table: ${name}`, (t) => t.is(formatTable(columns, rows), text));

const portLists: [ports: [published: number, target: number, protocol?: "udp"][], text: string][] = [
  [[], ""],
  [[[80, 8080]], "*:80->8080/tcp"],
  [
    [
      [8000, 80],
      [8001, 80],
      [8002, 80],
    ],
    "*:8000-8002->80/tcp",
  ],
  [
    [
      [8000, 9000],
      [8001, 9001],
      [8002, 9002],
      [8004, 9004],
    ],
    "*:8000-8002->9000-9002/tcp, *:8004->9004/tcp",
  ],
  [
    [
      [8000, 9000],
      [8001, 9001],
      [8002, 9001],
    ],
    "*:8000-8001->9000-9001/tcp, *:8002->9001/tcp",
  ],
  [
    [
      [53, 53],
      [54, 54, "udp"],
    ],
    "*:53->53/tcp, *:54->54/udp",
  ],
];
for (const [list, text] of portLists) {
  test(`ports are listed: ${text}`, (t) => {
    const views = list.map(([published, target, protocol]): PortView => {
      return { published, target, protocol: protocol ?? "tcp", mode: "ingress", address: null };
    });
    t.is(formatPorts(views), text);
  });
}

type PortRow = [published: number | null, target: number, protocol: string, mode?: string, address?: string | null];
const ports: [text: string, ports: PortRow[]][] = [
  ["9200:9200", [[9200, 9200, "tcp"]]],
  ["80:8080/tcp", [[80, 8080, "tcp"]]],
  ["53:5353/UDP", [[53, 5353, "udp"]]],
  ["9200", [[null, 9200, "tcp"]]],
  ["53/udp", [[null, 53, "udp"]]],
  [
    "8000-8001:9000-9001",
    [
      [8000, 9000, "tcp"],
      [8001, 9001, "tcp"],
    ],
  ],
  [
    "9000-9001",
    [
      [null, 9000, "tcp"],
      [null, 9001, "tcp"],
    ],
  ],
  ["10.0.0.1:80:8080", [[80, 8080, "tcp", "ingress", "10.0.0.1"]]],
  ["10.0.0.1::80/udp", [[null, 80, "udp", "ingress", "10.0.0.1"]]],
  ["0.0.0.0:80:80", [[80, 80, "tcp"]]],
  [":80", [[null, 80, "tcp"]]],
  ["0:80", [[null, 80, "tcp"]]],
  [
    "8000-8001:80",
    [
      [8000, 80, "tcp"],
      [8001, 80, "tcp"],
    ],
  ],
  ["published=0,target=80", [[null, 80, "tcp"]]],
  ["Target=80,PUBLISHED=8080,protocol=UDP", [[8080, 80, "udp"]]],
  ['"target=80","published=8080",mode=host', [[8080, 80, "tcp", "host"]]],
  ["published=80,target=8080", [[80, 8080, "tcp"]]],
  ["target=80", [[null, 80, "tcp"]]],
  ["target=53,published=53,protocol=udp,mode=ingress", [[53, 53, "udp"]]],
  ["mode=host,target=80,published=8080", [[8080, 80, "tcp", "host"]]],
  ["published=80,target=80,address=10.0.0.1", [[80, 80, "tcp", "ingress", "10.0.0.1"]]],
  ["published=80,target=80,host_ip=10.0.0.1", [[80, 80, "tcp", "ingress", "10.0.0.1"]]],
];
for (const [text, expected] of ports) {
  test(`-p ${text} is read`, (t) => {
    t.deepEqual(
      publishedPorts(text).map((port) => [port.published, port.target, port.protocol, port.mode, port.address]),
      expected.map(([published, target, protocol, mode = "ingress", address = null]) => {
        return [published, target, protocol, mode, address];
      }) as [number | null, number, "tcp" | "udp", "ingress" | "host", string | null][],
    );
  });
}

const FORM = /write \[ADDRESS:\]\[PUBLISHED:\]TARGET/;
const LONG_FORM = /write target=80,published=8080,protocol=tcp\|udp,mode=ingress\|host/;
const wrongPorts: [text: string, says: RegExp][] = [
  ["", FORM],
  ["80:", FORM],
  ["80/tcp/udp", FORM],
  ["a:b", /'b' is not a port from 1 to 65535/],
  ["80:0", /'0' is not a port/],
  ["65536", /'65536' is not a port/],
  ["80:-1", /'-1' is not a port/],
  ["8000-:80", /'8000-' is not a port/],
  ["[::1]:80:80", /IPv6 address, and nodes answer on IPv4/],
  ["::1:80:80", /IPv6 address, and nodes answer on IPv4/],
  ["70000:80", /'70000' is not a port/],
  ["80:80/sctp", /protocol is tcp or udp, not 'sctp'/],
  ["1.2.3.400:80:80", /'1.2.3.400' is not an IPv4 address/],
  ["1.2.3.4:80", /which port of 1\.2\.3\.4\? Write 1\.2\.3\.4:PUBLISHED:80, or 1\.2\.3\.4::80/],
  ["80-90:80-81", /'80-90' is 11 ports and '80-81' 2/],
  ["90-80:90-80", /not a range/],
  ["1-2000:1-2000", /not a range/],
  ["published=80", /the target is missing: write target/],
  ["publised=80,target=80", /'publised' is none of target, published, .*; did you mean 'published'/],
  ["published=80,target=80,mode=hots", /mode is ingress or host, not 'hots'; did you mean 'host'/],
  ["published=,target=80", LONG_FORM],
  ["published,target=80", LONG_FORM],
  ["target=80,", /'' is none of target/],
  ["target=80,constructor=1", /'constructor' is none of target/],
  ["target=80,target=81", /target is given twice/],
  ["target=80,address=10.0.0.1,host_ip=10.0.0.2", /address is given twice/],
  ["target=80,published=70000", /published is a port from 1 to 65535, not '70000'/],
  ["target=http", /target is a port from 1 to 65535, not 'http'/],
  ["target=80,published=8000-8010", /published is a port .*, not '8000-8010': only the short form has ranges/],
  ["target=80,protocol=sctp", /protocol is tcp or udp, not 'sctp'/],
];
for (const [text, says] of wrongPorts) {
  test(`-p '${text}' is refused`, (t) => {
    t.throws(() => publishedPorts(text), { instanceOf: InvalidArgumentError, message: says });
  });
}

const variables: [text: string, read: [string, string][]][] = [
  ["A=1", [["A", "1"]]],
  ["A=", [["A", ""]]],
  ["A=b=c", [["A", "b=c"]]],
  ["HERE", [["HERE", "there"]]],
  ["NOWHERE", []],
];
for (const [text, read] of variables) {
  test(`-e ${text} is read`, (t) => t.deepEqual(variable(text, { HERE: "there" }), read));
}
test("-e without a key is refused", (t) => {
  t.throws(() => variable("=1", {}), { instanceOf: InvalidArgumentError });
});

test("an option given twice adds up", (t) => {
  const read = collect((text) => [text]);
  t.deepEqual(read("b", read("a", undefined)), ["a", "b"]);
});

for (const [text, ms] of [
  ["500ms", 500],
  ["30", 30_000],
  ["30s", 30_000],
  ["2m", 120_000],
  ["1h", 3_600_000],
  ["1m30s", 90_000],
  ["1h1m1s1ms", 3_661_001],
] as const) {
  test(`--timeout ${text} is ${ms} ms`, (t) => t.is(duration(text), ms));
}

for (const [name, read] of [
  ["a duration without number", () => duration("s")],
  ["a duration with another unit", () => duration("3d")],
  ["a duration whose last number has no unit", () => duration("1m30")],
  ["a count that is negative", () => count("-1")],
  ["a count that is empty", () => count("")],
  ["a scaling without number", () => scaling("search")],
  ["a scaling without name", () => scaling("=3")],
  ["a scaling with two numbers", () => scaling("search=3=4")],
] as const) {
  test(`refused: ${name}`, (t) => {
    t.throws(read, { instanceOf: InvalidArgumentError });
  });
}

test("a scaling is read", (t) => t.deepEqual(scaling("search=3"), { name: "search", replicas: 3 }));

const serviceNetworks: [text: string, read: ReturnType<typeof serviceNetwork>][] = [
  ["web", ["web"]],
  ["name=web", [{ name: "web", aliases: [] }]],
  ["name=web,alias=db,alias=store", [{ name: "web", aliases: ["db", "store"] }]],
  ["alias=db,name=web", [{ name: "web", aliases: ["db"] }]],
];
for (const [text, read] of serviceNetworks) {
  test(`a service's network may be '${text}'`, (t) => t.deepEqual(serviceNetwork(text), read));
}
for (const text of ["alias=db", "name=web,alias=", "name=", "name=a,name=b", "name=web,ip=10.0.0.1", "name=web,db"]) {
  test(`'${text}' is no network of a service`, (t) => {
    t.throws(() => serviceNetwork(text), { instanceOf: InvalidArgumentError, message: /name=NETWORK,alias=NAME/ });
  });
}

test("a TTL is whole seconds, with a unit or without", (t) => {
  t.deepEqual(["0", "30", "30s", "2m", "2000ms"].map(seconds), [0, 30, 30, 120, 2]);
  for (const text of ["1500ms", "-1", "soon"]) t.throws(() => seconds(text), { instanceOf: InvalidArgumentError });
});

const errors: [error: string | null, truncate: boolean, text: string][] = [
  [null, true, ""],
  ["exit status 1", true, '"exit status 1"'],
  ["a".repeat(30), true, `"${"a".repeat(30)}"`],
  ["a".repeat(31), true, `"${"a".repeat(29)}…"`],
  ["a".repeat(31), false, `"${"a".repeat(31)}"`],
];
for (const [error, truncate, text] of errors) {
  test(`an error of ${error?.length ?? 0} characters${truncate ? "" : ", in full"}: ${text}`, (t) =>
    t.is(formatError(error, truncate), text));
}
