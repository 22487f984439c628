// The data directory is for its owner alone, whichever user made it.
import { chmodSync, mkdirSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import test from "ava";
import { ownDataDirectory } from "../../src/agent/data-directory.ts";
import { silentLog } from "../../src/lib/log.ts";
import { temporaryDirectory } from "../temporary.ts";

const modeOf = (path: string): number => statSync(path).mode & 0o777;

test("a data directory that was open to others is no more, and one that is made never was", async (t) => {
  const parent = temporaryDirectory("test");
  t.teardown(() => rmSync(parent, { recursive: true }));
  const open = join(parent, "open");
  mkdirSync(open);
  chmodSync(open, 0o755);
  await ownDataDirectory(open, silentLog);
  t.is(modeOf(open), 0o700);
  await ownDataDirectory(join(parent, "made", "below"), silentLog);
  t.is(modeOf(join(parent, "made", "below")), 0o700);
});
