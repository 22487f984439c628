// Files that are replaced as a whole.
import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import test from "ava";
import { damagedPath, replaceFile, setAside } from "../../src/lib/replace-file.ts";
import { temporaryDirectory } from "../temporary.ts";

function directory(): string {
  return temporaryDirectory("replace");
}

test("a file is made with its directory, replaced, and only its owner reads it", async (t) => {
  const home = directory();
  const path = join(home, "data", "file");
  await replaceFile(path, "first");
  t.is(statSync(path).mode & 0o777, 0o600);
  await replaceFile(path, Buffer.from("second"));
  t.is(readFileSync(path, "utf8"), "second");
  t.deepEqual(readdirSync(join(home, "data")), ["file"]);
});

test("content may come in pieces", async (t) => {
  const path = join(directory(), "file");
  await replaceFile(path, ["one\n", "two\n"]);
  t.is(readFileSync(path, "utf8"), "one\ntwo\n");
});

test("content that fails half-way leaves the old file, and nothing beside it", async (t) => {
  const home = directory();
  const path = join(home, "file");
  await replaceFile(path, "old");
  function* broken(): Generator<string> {
    yield "new, ";
    throw new Error("no more");
  }
  await t.throwsAsync(replaceFile(path, broken()), { message: "no more" });
  t.is(readFileSync(path, "utf8"), "old");
  t.deepEqual(readdirSync(home), ["file"]);
});

test("a path that is a directory is an error, and nothing is left beside it", async (t) => {
  const home = directory();
  mkdirSync(join(home, "taken", "full"), { recursive: true });
  await t.throwsAsync(replaceFile(join(home, "taken"), "x"), { code: "EISDIR" });
  t.deepEqual(readdirSync(home), ["taken"]);
});

test("a damaged file is set aside in the place of an earlier one", async (t) => {
  const path = join(directory(), "file");
  for (const content of ["first", "second"]) {
    writeFileSync(path, content);
    t.is(await setAside(path), damagedPath(path));
    t.is(readFileSync(damagedPath(path), "utf8"), content);
  }
  await t.throwsAsync(setAside(path), { code: "ENOENT" });
});
