// Before another version of overlayd leads, the state is exported.
import { readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import test from "ava";
import { exportBeforeUpgrade } from "../../src/agent/upgrade-export.ts";
import { emptyState } from "../../src/cluster/state.ts";
import { silentLog } from "../../src/lib/log.ts";
import { VERSION } from "../../src/lib/version.ts";
import { temporaryDirectory } from "../temporary.ts";

interface Case {
  what: string;
  /** The version that led last; undefined: there is no file. */
  ledBy?: string;
  isKnown?: boolean;
  isOwnFile?: boolean;
  fails?: boolean;
  /** Whether the state says which cluster it is of. */
  isWhole?: boolean;
  exported: boolean;
  /** The file afterwards; left out: this version. */
  after?: string;
}

const CASES: Case[] = [
  { what: "an older version led", ledBy: "0.0.1", exported: true },
  { what: "a newer version led", ledBy: "9.0.0", isOwnFile: false, exported: true },
  { what: "this version led", ledBy: VERSION, exported: false },
  { what: "a version led that left no file", exported: true },
  { what: "the cluster begins", isKnown: false, exported: false },
  { what: "another manager has led from etcd until now", isOwnFile: false, exported: false },
  {
    what: "an older version led, and the move to etcd is not over",
    ledBy: "0.0.1",
    isWhole: false,
    exported: false,
    after: "0.0.1",
  },
  { what: "the disk is full", ledBy: "0.0.1", fails: true, exported: true, after: "0.0.1" },
];

for (const one of CASES) {
  const {
    what,
    ledBy,
    isKnown = true,
    isOwnFile = true,
    fails = false,
    isWhole = true,
    exported,
    after = VERSION,
  } = one;
  test(`${what}: ${exported ? "an" : "no"} export`, async (t) => {
    const dataDir = temporaryDirectory("upgrade");
    const path = join(dataDir, "led-by");
    if (ledBy !== undefined) await writeFile(path, `${ledBy}\n`);
    const written: string[] = [];
    const cluster = { id: "c".repeat(25), epoch: 1 };
    const options = {
      config: { dataDir },
      storedVersion: () => (isKnown ? { ...cluster, revision: 1 } : undefined),
      log: silentLog,
      exports: {
        write: async (occasion: string) => {
          written.push(occasion);
          if (fails) throw new Error("no room");
          return "path";
        },
      },
    };
    const state = Object.assign(emptyState(), { cluster: isWhole ? cluster : null });
    await exportBeforeUpgrade(options as unknown as Parameters<typeof exportBeforeUpgrade>[0], state, { isOwnFile });
    t.deepEqual(written, exported ? ["before-upgrade"] : []);
    t.is((await readFile(path, "utf8")).trim(), after);
    await rm(dataDir, { recursive: true });
  });
}
