// The id of a data directory.
import { readdir, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import test from "ava";
import { directoryId, readDirectoryId } from "../../src/agent/directory-id.ts";
import { temporaryDirectory } from "../temporary.ts";

test("it is made once, for its owner alone, and is there for ever", async (t) => {
  const directory = temporaryDirectory("id");
  const path = join(directory, "data", "id");
  t.is(await readDirectoryId(path), undefined);
  const id = await directoryId(path);
  t.regex(id, /^[0-9a-z]{25}$/);
  t.is(await directoryId(path), id);
  t.is(await readDirectoryId(path), id);
  t.is((await stat(path)).mode & 0o777, 0o600);
  t.deepEqual(await readdir(join(directory, "data")), ["id"]);
  await writeFile(path, "");
  await t.throwsAsync(directoryId(path), { message: /does not hold the id/ });
  await rm(directory, { recursive: true });
});
