// When a manager took over by hand is in a file. A damaged one does not keep the manager from answering the others.
import { existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import test from "ava";
import { TookOverFile } from "../../src/agent/took-over.ts";
import { createLog } from "../../src/lib/log.ts";
import { temporaryDirectory } from "../temporary.ts";

test("what was written is read, and a manager that never took over has none", async (t) => {
  const { file } = opened(t.teardown);
  t.is(await file.read(), null);
  await file.write({ epoch: 3, revision: 7 });
  t.deepEqual(await file.read(), { epoch: 3, revision: 7 });
});

test("a file that is cut is set aside, named and counts as none, also for two that ask at the same time", async (t) => {
  const { file, path, logged } = opened(t.teardown);
  writeFileSync(path, '{"epoch":3,');
  t.deepEqual(await Promise.all([file.read(), file.read()]), [null, null]);
  t.is(await file.read(), null);
  t.false(existsSync(path));
  t.is(readFileSync(`${path}.damaged`, "utf8"), '{"epoch":3,');
  t.regex(logged.join(""), /took-over\.json\.damaged.*when this manager took over is not known any more/);
  t.true(logged.length <= 2);
});

function opened(teardown: (fn: () => void) => void) {
  const directory = temporaryDirectory("took-over");
  teardown(() => rmSync(directory, { recursive: true }));
  const path = join(directory, "took-over.json");
  const logged: string[] = [];
  const log = createLog("warn", { write: (line: string) => logged.push(line) });
  return { path, logged, file: new TookOverFile(path, log) };
}
