// Programs of the system: what they say, how they fail, and which of two of a name is meant.
import { rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import test from "ava";
import { CommandError, run } from "../../src/lib/command.ts";
import { PlatformError } from "../../src/lib/errors.ts";
import { temporaryDirectory } from "../temporary.ts";

test("what it prints is returned, what is given is read", async (t) => {
  t.is(await run(["cat"], "a\nb\n"), "a\nb\n");
});

test("a failure names the command and what it said", async (t) => {
  const error = await t.throwsAsync(run(["sh", "-c", "echo half; echo no room >&2; exit 3"]), {
    instanceOf: CommandError,
  });
  t.like(error, { exitCode: 3, stdout: "half\n", stderr: "no room\n" });
  t.regex(error?.message ?? "", /^sh -c .*: no room$/s);
});

test("a program that does not read what it is given fails as it says itself", async (t) => {
  const error = await t.throwsAsync(run(["sh", "-c", "exit 4"], "x".repeat(1 << 20)), { instanceOf: CommandError });
  t.is(error?.exitCode, 4);
});

test("a program that is missing is named, with the package that brings it", async (t) => {
  const error = await t.throwsAsync(run(["overlayd-no-such"]), { instanceOf: PlatformError });
  t.is(error?.message, "'overlayd-no-such' is not installed (apt-get install overlayd-no-such)");
});

test("a program of the same name elsewhere on PATH is not taken for the system's", async (t) => {
  const folder = temporaryDirectory("test");
  const path = process.env.PATH;
  await writeFile(join(folder, "cat"), "#!/bin/sh\necho other\n", { mode: 0o755 });
  process.env.PATH = `${folder}:${path}`;
  try {
    t.is(await run(["cat"], "the system's"), "the system's");
  } finally {
    process.env.PATH = path;
    await rm(folder, { recursive: true });
  }
});
