// The move to etcd, when an operator says so, and broken off by kill -9 of the leader's agent at each of its steps: the next agent
// goes on, with all that was acknowledged, and the managers come to share one etcd.
import { readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "ava";
import { ETCD_CLIENT_PORT } from "../../src/leader/etcd-command.ts";
import type { MoveStep } from "../../src/leader/move-store.ts";
import { VERSION } from "../../src/lib/version.ts";
import { Background, waitFor } from "./command.ts";
import { createLab, type Lab, type LabNode } from "./lab.ts";
import { hasNetworks, statusOf, untilWhole, untilWritten } from "./managers.ts";
import { program } from "./program.ts";
import { makeDiskSlow, removeSlowDisk, whyNoSlowDisk } from "./slow-disk.ts";
import { systemTest } from "./system-test.ts";

/** What the managers' etcd is started by, and is not there at first. */
const ETCD = "/tmp/mvo-etcd";
const LISTEN = `require("net").createServer().listen(${ETCD_CLIENT_PORT}, "127.0.0.1", () => console.log("listening"))`;
const STEPS: readonly MoveStep[] = ["begin", "join", "copy", "give away", "open"];

for (const [i, step] of STEPS.entries()) {
  systemTest(`the leader is killed as the move to etcd comes to '${step}'`, async (t) => {
    const lab = await createLab({ prefix: `mv${i}`, nodes: 3, managers: 2, waiting: 1 });
    try {
      await lab.startAgents();
      const [leader, , third] = lab.nodes;
      await leader!.ctl("network", "create", "before");
      await third!.joinCluster("192.0.2.11:2377", await lab.token("manager"));
      const isAt = () => leader!.logTail(100).includes(`the move to etcd: ${step}"`);
      await waitFor(isAt, { what: `the move to come to '${step}'`, everyMs: 1 });
      await leader!.killAgent();
      await leader!.startAgent();
      await untilWhole(lab.nodes);
      if (step === "give away") await loseLeaderAfterGivingAway(lab);
      if (step === "open") await breakOffAfterGivingAway(lab);
      await untilWritten(lab.nodes, "after");
      for (const node of lab.nodes) await hasNetworks(t, node, ["before", "after"]);
    } finally {
      await lab.teardown();
    }
  });
}

systemTest(
  "an operator moves the state of two managers to etcd, once nothing keeps their machines from it",
  async (t) => {
    const lab = await createLab({
      ...{ prefix: "mvo", nodes: 3, managers: 2, waiting: 1 },
      settings: { cluster: { etcd: { binary: ETCD } } },
    });
    try {
      await lab.startAgents();
      const [leader, standby, third] = lab.nodes;
      rmSync(ETCD, { force: true });
      const refusal = async (): Promise<string> => {
        const { status, stderr } = await standby!.tryExec(["overlayctl", "cluster", "move"]);
        t.not(status, 0);
        return stderr;
      };
      t.regex(
        await refusal(),
        /does not move to etcd yet: mvon1: '\/tmp\/mvo-etcd' does not run.*; mvon2: .*apt-get install/,
      );
      symlinkSync("/usr/bin/etcd", ETCD);
      const taken = new Background(standby!.inside([process.execPath, "-e", LISTEN]));
      await taken.says("listening");
      const isTaken = await refusal();
      t.regex(isTaken, /: mvon2: etcd cannot listen on 127\.0\.0\.1:2378: another process listens there \(ss -ltnp/);
      t.false(isTaken.includes("--force"), "it would not help");
      await taken.end("SIGKILL");
      t.is((await statusOf(leader!)).store, "file");
      // A user has it moved from a machine that is in no cluster.
      const context = join(lab.directory, "alice.yaml");
      writeFileSync(context, await leader!.ctl("user", "add", "alice"));
      const asAlice = () => third!.shell(`overlayctl --context ${context} cluster move`);
      const moved = await asAlice();
      t.is(moved.status, 0, moved.stderr);
      const words = /^The cluster's state, revision \d+, is in etcd now, which mvon1, mvon2 run\.\nTwo managers: /;
      t.regex(moved.stdout, words);
      t.regex(
        leader!.logTail(200),
        /"reason":"user alice at 192\.0\.2\.13[^"]*"[^\n]*an operator has the state move to etcd/,
      );
      await untilWhole([leader!, standby!]);
      for (const again of [await refusal(), (await asAlice()).stderr]) {
        t.regex(
          again,
          /the cluster's state is in an etcd that the managers run already: 'overlayctl cluster status' shows it/,
        );
      }
      await third!.joinCluster("192.0.2.11:2377", await lab.token("manager"));
      await untilWhole(lab.nodes);
    } finally {
      await lab.teardown();
      rmSync(ETCD, { force: true });
    }
  },
);

const LACK = whyNoSlowDisk(tmpdir());
const slowDiskTest: typeof systemTest =
  LACK === undefined ? systemTest : (title) => test.serial.skip(`${title} (skipped: ${LACK})`, () => {});

slowDiskTest("a disk that is really slow keeps the state from moving to etcd, and by force it moves", async (t) => {
  const lab = await createLab({ prefix: "mvd", nodes: 3, managers: 2, waiting: 1 });
  const [leader, , slow] = lab.nodes as [LabNode, LabNode, LabNode];
  try {
    await lab.startAgents();
    const mend = makeDiskSlow(slow);
    await slow.joinCluster("192.0.2.11:2377", await lab.token("manager"));
    const why =
      /does not move to etcd yet: mvdn3: a durable write to \S+ takes up to \d{3,} ms: etcd would lose its leader/;
    // The leader moves it by itself at the third manager, and says why it does not.
    const warned = async () => (await statusOf(leader)).warnings.some((warning) => why.test(warning));
    await waitFor(warned, { what: "the leader to say that the disk is too slow" });
    const { status, stderr } = await leader.tryExec(["overlayctl", "cluster", "move"]);
    t.is(status, 1);
    t.regex(stderr, why);
    t.regex(stderr, /; 'overlayctl cluster move --force' moves it all the same\n$/);
    t.is((await statusOf(leader)).store, "file");
    const moved = await leader.tryExec(["overlayctl", "cluster", "move", "--force"]);
    t.regex(moved.stdout, /is in etcd now, which mvdn1, mvdn2, mvdn3 run\./);
    t.regex(moved.stderr, /mvdn3: a durable write to \S+ takes up to \d{3,} ms/);
    await untilWritten(lab.nodes, "slowly");
    mend();
    await untilWhole(lab.nodes);
    for (const node of lab.nodes) await hasNetworks(t, node, ["slowly"]);
  } finally {
    await lab.teardown();
    await removeSlowDisk(slow);
  }
});

systemTest(
  "an operator moves the state of one manager to etcd, and another version of overlayd exports it first",
  async (t) => {
    const lab = await createLab({ prefix: "mvs", nodes: 1 });
    try {
      await lab.startAgents();
      const [node] = lab.nodes;
      await node!.ctl("network", "create", "before");
      t.regex(
        await node!.ctl("cluster", "move", "--store", "etcd"),
        /which mvsn1 runs\.\nOne manager leads nothing when it fails/,
      );
      const data = join(node!.directory, "data");
      const directory = join(data, "exports", (await statusOf(node!)).cluster);
      const exports = (): string[] => readdirSync(directory).filter((name) => name.endsWith(".jsonl"));
      t.deepEqual(
        exports().map((name) => name.replace(/-\d.*/, "")),
        ["before-change"],
      );
      await node!.stopAgent();
      writeFileSync(join(data, "led-by"), "0.0.9\n");
      await node!.startAgent();
      await untilWritten([node!], "after");
      await hasNetworks(t, node!, ["before", "after"]);
      t.deepEqual(
        exports().map((name) => name.replace(/-\d.*/, "")),
        ["before-change", "before-upgrade"],
      );
      t.is(readFileSync(join(data, "led-by"), "utf8"), `${VERSION}\n`);
    } finally {
      await lab.teardown();
    }
  },
);

/**
 * The file of the first node says that the state is in etcd, which does not say yet which cluster it is of: a moment that no
 * kill hits for certain.
 */
async function endAfterGivingAway({ nodes }: Lab): Promise<void> {
  for (const node of nodes) await node.killAgent();
  const etcd = join(nodes[0]!.directory, "data/etcd");
  await nodes[0]!.exec(program("unname-state", etcd, `127.0.0.1:${ETCD_CLIENT_PORT}`));
}

async function breakOffAfterGivingAway(lab: Lab): Promise<void> {
  await endAfterGivingAway(lab);
  await Promise.all(lab.nodes.map((node) => node.startAgent()));
  await untilWhole(lab.nodes);
}

/** The first node does not come back, so a standby takes over its copy, and moves it to etcd when there are three again. */
async function loseLeaderAfterGivingAway(lab: Lab): Promise<void> {
  await endAfterGivingAway(lab);
  const [first, second, third] = lab.nodes;
  await Promise.all([second!.startAgent(), third!.startAgent()]);
  const takeOver = async () => (await second!.ctl("cluster", "takeover")).includes("This node leads from revision");
  await waitFor(takeOver, { what: "a standby to take over" });
  await untilWritten([second!], "alone");
  await first!.startAgent();
  await untilWhole(lab.nodes);
  await untilWritten([first!], "alone");
}
