// Two data paths on real sockets, two workers each, with keys that are put in by hand: what containers say is on the underlay sealed alone.
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test, { type ExecutionContext } from "ava";
import type { EngineReport } from "../../src/datapath/engine-report.ts";
import { Background, ping, run, waitFor } from "./command.ts";
import { program } from "./program.ts";
import { systemTest } from "./system-test.ts";
import { undoAfterAll } from "./undo.ts";

const HOSTS = ["slp-11", "slp-12"] as const;
const SECOND = "10.192.32.12";
/** In every line of a request (programs/ask.ts). */
const PLAINTEXT = "line-";
const directory = mkdtempSync(join(tmpdir(), "sealed-path-"));
const inside = (host: string, argv: readonly string[]): string[] => ["ip", "netns", "exec", host, ...argv];
const nodes: Background[] = [];

async function begin(): Promise<void> {
  for (const host of HOSTS) await run(["ip", "netns", "add", host]);
  await run([
    "ip",
    "link",
    "add",
    "eth0",
    "netns",
    HOSTS[0],
    "type",
    "veth",
    "peer",
    "name",
    "eth0",
    "netns",
    HOSTS[1],
  ]);
  for (const host of HOSTS) {
    await run(inside(host, ["ip", "address", "add", `192.0.2.${host.slice(-2)}/24`, "dev", "eth0"]));
    for (const link of ["lo", "eth0"]) await run(inside(host, ["ip", "link", "set", link, "up"]));
  }
  mkdirSync(directory, { recursive: true });
  for (const host of HOSTS) {
    const ends = host === HOSTS[0] ? [11, 12] : [12, 11];
    nodes.push(new Background(inside(host, program("sealed-node", "sealed", ...ends, directory))));
  }
  for (const node of nodes) await node.says("ready");
  const server = new Background(inside(HOSTS[1], program("echo-server", 7)));
  undoAfterAll(() => server.end("SIGKILL"));
}

async function end(): Promise<void> {
  for (const node of nodes) await node.end("SIGTERM");
  for (const host of HOSTS) await run(["ip", "netns", "del", host]);
  rmSync(directory, { recursive: true });
}

if (process.getuid?.() === 0) {
  undoAfterAll(end);
  test.serial.before(begin);
}

async function reportOf(node: Background): Promise<EngineReport> {
  const before = node.output.length;
  node.signal("SIGHUP");
  const line = await waitFor(() => /report (.*)\n/.exec(node.output.slice(before))?.[1], { what: "a report" });
  return JSON.parse(line) as EngineReport;
}

/** Asks the second node; the lines come back as they went. */
async function ask(t: ExecutionContext, protocol: "tcp" | "udp", count: number): Promise<void> {
  const answers = await run(inside(HOSTS[0], program("ask", protocol, SECOND, 7, count)));
  t.true(answers.includes(PLAINTEXT), answers);
}

systemTest(
  "TCP, UDP and pings arrive, and on the underlay there is nothing but ESP, and a clear probe a second",
  async (t) => {
    const file = join(directory, "sealed.pcap");
    const argv = ["tcpdump", "-i", "eth0", "--immediate-mode", "-U", "-s0", "-w", file, "ip"];
    const capture = await new Background(inside(HOSTS[1], argv)).says("listening on");
    await waitFor(async () => (await run(inside(HOSTS[0], ping(SECOND)))) !== "", { what: "the first answer" });
    await ask(t, "tcp", 50);
    await ask(t, "udp", 50);
    await run(inside(HOSTS[0], ping(SECOND, "-c", "3", "-i", "0.2", "-s", "1380", "-M", "do", "-p", "6c696e652d")));
    await capture.end("SIGINT");
    t.false(readFileSync(file).includes(PLAINTEXT));
    const listed = await run(["tcpdump", "-r", file, "-nn"]);
    const lines = listed.split("\n").filter((line) => line !== "");
    t.true(lines.length > 100, listed);
    const others = lines.filter((line) => !/192\.0\.2\.1[12]\.\d+ > 192\.0\.2\.1[12]\.4500: UDP-encap: ESP/.test(line));
    t.deepEqual(
      others.filter((line) => !/VXLAN, flags \[I\] \(0x08\), vni 1$|BFDv1, Control/.test(line)),
      [],
    );
  },
);

systemTest("each worker seals and opens, and packets come to the worker that has their key", async (t) => {
  for (let i = 0; i < 6; i++) await ask(t, "tcp", 1);
  for (const node of nodes) {
    const { drops, sealed } = await reportOf(node);
    t.is(drops["unknown-spi"] ?? 0, 0);
    t.is(drops["bad-seal"] ?? 0, 0);
    t.is(sealed.length, 1);
    t.is(sealed[0]!.outbound, 8);
    t.true(sealed[0]!.sealed > 20 && sealed[0]!.opened > 20);
  }
});

systemTest("transfers arrive whole both ways while the keys change again and again", async (t) => {
  const before = await Promise.all(nodes.map(reportOf));
  const asking = ask(t, "tcp", 3000);
  for (let round = 1; round < 20; round++) {
    for (const node of nodes) {
      node.signal("SIGUSR1");
      await node.says(`changed ${round}`);
    }
  }
  await asking;
  const after = await Promise.all(nodes.map(reportOf));
  for (const [i, { drops }] of after.entries()) {
    for (const reason of ["unknown-spi", "bad-seal", "replayed", "no-key", "underlay-refused"])
      t.is(drops[reason] ?? 0, before[i]!.drops[reason] ?? 0, reason);
  }
});

systemTest(
  "a large transfer comes back as it went, cut to segments, joined by the kernel and opened in place",
  async (t) => {
    const server = await new Background(inside(HOSTS[1], program("bulk", "serve", 9))).says("listening");
    const said = await run(inside(HOSTS[0], program("bulk", "ask", SECOND, 9, 40_001, 20_000_000)));
    t.true(said.includes("ok"), said);
    await server.end("SIGKILL");
    for (const node of nodes) {
      const { drops } = await reportOf(node);
      for (const reason of ["unknown-spi", "bad-seal", "replayed", "no-key"]) t.is(drops[reason] ?? 0, 0, reason);
    }
  },
);
