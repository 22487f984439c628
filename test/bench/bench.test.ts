// What the bench reads and writes: its arguments, /proc, the table, and the document.
import test from "ava";
import { busySeconds, processSeconds, residentMegabytes } from "../../bench/cpu.ts";
import { withFigures } from "../../bench/document.ts";
import type { Row } from "../../bench/experiment.ts";
import { GROUPS, parseOptions } from "../../bench/options.ts";
import { formatMarkdown, formatRows } from "../../bench/report.ts";
import type { Failure, Results } from "../../bench/results.ts";

test("without arguments everything is measured, five rounds", (t) => {
  const { groups, rounds, peers, quick, profile } = parseOptions([]);
  t.deepEqual([groups, rounds, peers, quick, profile], [GROUPS, 5, false, false, undefined]);
});

test("arguments choose groups, rounds and settings", (t) => {
  const options = parseOptions([
    "--only",
    "tcp,rr",
    "--rounds",
    "3",
    "--peers",
    "--datapath",
    "workers=1,spinMicros=0,express=auto",
  ]);
  t.deepEqual(options.groups, ["tcp", "rr"]);
  t.is(options.rounds, 3);
  t.true(options.peers);
  t.deepEqual(options.datapath, { workers: 1, spinMicros: 0, express: "auto" });
});

test("a quick run is short, and --rounds still counts", (t) => {
  t.is(parseOptions(["--quick"]).rounds, 2);
  t.is(parseOptions(["--quick", "--rounds", "4"]).rounds, 4);
});

test("a ratio near its bar has 25 pairs, and every ratio has as many as are asked for", (t) => {
  const repetition = (...argv: string[]) => {
    const { rounds, nearBar } = parseOptions(argv);
    return [rounds, nearBar];
  };
  t.deepEqual(repetition(), [5, 25]);
  t.deepEqual(repetition("--quick"), [2, 2]);
  t.deepEqual(repetition("--rounds", "30"), [30, 30]);
  t.deepEqual(repetition("--pairs", "11"), [11, 11]);
  t.deepEqual(repetition("--pairs", "40", "--rounds", "5"), [5, 40]);
});

test("against another commit the groups between two nodes are measured, unless others are asked for", (t) => {
  const { groups, against } = parseOptions(["--against", "HEAD~1"]);
  t.deepEqual([against, ...groups], ["HEAD~1", "tcp", "udp", "rr", "cps", "dns", "ingress"]);
  t.deepEqual(parseOptions(["--against", "HEAD~1", "--only", "rr,restart"]).groups, ["rr", "restart"]);
});

const REFUSED: [argv: string[], message: RegExp][] = [
  [["--only", "tcp,icmp"], /'icmp' is not one of tcp,/],
  [["--rounds", "0"], /'0' is not a number/],
  [["--rounds", "five"], /'five' is not a number/],
  [["--profile", "memory"], /'memory' is not one of/],
  [["--datapath", "workers"], /'workers' is not NAME=NUMBER or NAME=WORD/],
  [["--datapath", "express=auto!"], /'express=auto!' is not NAME=NUMBER or NAME=WORD/],
  [["--against", "main", "--only", "express"], /--only, with --against: 'express' is not one of tcp,/],
  [["--fast"], /--fast/],
  [["--against", "main", "--only", "memory"], /--only, with --against: 'memory' is not one of tcp,/],
  [["--against", "main", "--peers"], /cannot be combined with --peers/],
  [["--against"], /--against/],
];
for (const [argv, message] of REFUSED) {
  test(`'${argv.join(" ")}' is refused, and the message says why`, (t) => {
    t.throws(() => parseOptions(argv), { message, name: "UserError" });
  });
}

test("a process's CPU time is found behind a name with spaces and parentheses", (t) => {
  const stat = "71 (a (b) c) S 1 71 71 0 -1 4194560 9 0 0 0 250 150 0 0 20 0 1 0 5 1 2";
  t.is(processSeconds(stat), 4);
});

test("the machine's CPU time leaves idle, waiting and guests out", (t) => {
  t.is(busySeconds("cpu  100 20 30 9999 9999 4 5 6 70 80\ncpu0 1 2 3"), 1.65);
});

test("resident memory is told in megabytes", (t) => {
  t.is(residentMegabytes("VmPeak:\t  9 kB\nVmRSS:\t  125000 kB\nRssAnon:\t 1 kB\n"), 128);
  t.throws(() => residentMegabytes("State:\tZ (zombie)\n"));
});

const ROW: Row = {
  group: "tcp",
  experiment: "TCP, one stream",
  metric: "throughput",
  unit: "Gbit/s",
  digits: 2,
  contender: "overlayd",
  value: { median: 5.5, min: 5, max: 6 },
  ratio: { median: 0.55, min: 0.5, max: 0.6 },
  limit: { of: "ratio", atMost: false, bar: 0.5, aim: 0.6 },
  verdict: "met",
  interval: null,
  samples: [5, 5.5, 6],
};

test("a row shows figure, spread, ratio, bar, aim and verdict", (t) => {
  const cells = formatRows([ROW])
    .split("\n")[1]!
    .split(/\s{2,}/);
  t.deepEqual(cells, [
    "TCP, one stream: throughput, Gbit/s",
    "overlayd",
    "5.50",
    "5.00",
    "6.00",
    "0.55 (0.50 to 0.60)",
    ">= 0.50",
    ">= 0.60",
    "met",
  ]);
});

test("a ratio of many pairs has the interval of its median beside its range", (t) => {
  const row: Row = { ...ROW, interval: { low: 0.541, high: 0.56 }, samples: Array(25).fill(5.5) };
  t.true(formatRows([row]).includes("0.55 (0.50 to 0.60; 25 pairs, 95 %: 0.54 to 0.56)"));
});

test("figures of a reference have no ratio, bar or verdict", (t) => {
  const row = { ...ROW, ratio: null, interval: null, limit: null, verdict: null };
  t.true(formatMarkdown([row]).endsWith("| overlayd | 5.50 | 5.00 | 6.00 |  |  |  |  |\n"));
});

const RESULTS: Results = {
  at: "2026-01-02T03:04:05.000Z",
  rounds: 5,
  secondsEach: 4,
  machine: {
    cpu: "a CPU",
    cores: 2,
    memoryGigabytes: 8,
    kernel: "6.1",
    node: "v20",
    systemCallNanoseconds: 120,
    systemCallFromJavaScriptNanoseconds: 200,
    wakeUpMicroseconds: 21.04,
  },
  datapath: {},
  laneIsOff: "'datapath.express' is off",
  rows: [ROW],
  failures: [],
};
const BEGIN = "<!-- figures: npm run bench -- --document -->";
const END = "<!-- end of figures -->";

const pageOf = (...sections: string[]): string => `before\n${BEGIN}\n${sections.join("\n\n")}\n\n${END}\nafter\n`;

test("the figures of a group are replaced, and the head line says when and where they were measured", (t) => {
  const written = withFigures(pageOf("### tcp\nold"), RESULTS);
  t.true(written.startsWith(`before\n${BEGIN}\n### tcp\nMeasured 2026-01-02 on 2 cores of a CPU`), written);
  t.true(written.endsWith(`| met |\n\n${END}\nafter\n`), written);
  t.true(
    written.includes(
      "a system call takes 120 ns (from JavaScript 200 ns), the wake-up of a thread 21.0 us; 5 rounds of 4 s; express lane off ('datapath.express' is off).",
    ),
  );
  t.false(written.includes("old"));
  t.true(withFigures(pageOf(), { ...RESULTS, laneIsOff: null }).includes("5 rounds of 4 s; express lane on."));
  t.is(withFigures(written, RESULTS), written);
});

test("groups that were not measured keep their figures, and all stand in the order of the groups", (t) => {
  const written = withFigures(pageOf("### changes\nolder", "### udp\nkept\n\n| a |"), RESULTS);
  t.deepEqual(written.match(/^### .*$/gm), ["### tcp", "### udp", "### changes"]);
  t.true(written.includes("### udp\nkept\n\n| a |\n\n### changes\nolder\n\n<!--"), written);
});

test("the document says what could not be measured", (t) => {
  const failures: Failure[] = [{ group: "scale", experiment: "10000 services", reason: "only 3000 were created" }];
  const written = withFigures(pageOf("### scale\nold"), { ...RESULTS, rows: [], failures });
  t.regex(written, /### scale\nMeasured .*\n\nNot measured: 10000 services: only 3000 were created\n\n<!--/);
});

const PAGES_REFUSED: [title: string, page: string, message: RegExp][] = [
  ["without its markers", "text", /lost its markers/],
  ["with a heading of no group", pageOf("### icmp\nold"), /'### icmp' is no group/],
  ["with figures before the first heading", pageOf("| old |", "### tcp"), /do not begin with/],
];
for (const [title, page, message] of PAGES_REFUSED) {
  test(`a document ${title} is left alone`, (t) => {
    t.throws(() => withFigures(page, RESULTS), { message });
  });
}
