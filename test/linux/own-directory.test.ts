// A directory in a place where all users may make files: none of them can have it first.
import { chmodSync, chownSync, lstatSync, mkdirSync, readdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import test from "ava";
import { silentLog } from "../../src/lib/log.ts";
import { makeOwnDirectory } from "../../src/linux/own-directory.ts";
import { temporaryDirectory } from "../temporary.ts";

const NOBODY = 65534;

const rows: [title: string, put: (path: string, elsewhere: string) => void][] = [
  ["nothing", () => {}],
  ["a directory of its own", (path) => mkdirSync(path, { mode: 0o700 })],
  [
    "a directory of its own to which others write",
    (path) => {
      mkdirSync(path);
      chmodSync(path, 0o777);
    },
  ],
  ["a link to a directory", (path, elsewhere) => symlinkSync(elsewhere, path)],
  ["a link to nothing", (path) => symlinkSync("/nonexistent/place", path)],
  ["a file", (path) => writeFileSync(path, "")],
];
if (process.geteuid!() === 0)
  rows.push([
    "another user's directory with files",
    (path) => {
      mkdirSync(path);
      writeFileSync(join(path, "flows"), "");
      chownSync(path, NOBODY, NOBODY);
    },
  ]);

for (const [title, put] of rows) {
  test(`where there is ${title} a directory is made or taken to which no other user writes`, (t) => {
    const base = temporaryDirectory("own-directory");
    t.teardown(() => rmSync(base, { recursive: true }));
    const elsewhere = join(base, "elsewhere");
    mkdirSync(elsewhere);
    const path = join(base, "overlayd");
    put(path, elsewhere);
    makeOwnDirectory(path, 0o700, silentLog);
    t.like(lstatSync(path), { mode: 0o040700, uid: process.geteuid!() });
    t.deepEqual([readdirSync(path), readdirSync(elsewhere)], [[], []]);
  });
}
