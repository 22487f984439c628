// The end of a file that grows, and is cut.
import { appendFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import test, { type ExecutionContext } from "ava";
import { systemClock } from "../../src/lib/clock.ts";
import { readTail } from "../../src/runtime/log-file.ts";
import { temporaryDirectory } from "../temporary.ts";

function fileOf(t: ExecutionContext, content: string): string {
  const directory = temporaryDirectory("test");
  t.teardown(() => rmSync(directory, { recursive: true }));
  const path = join(directory, "log");
  writeFileSync(path, content);
  return path;
}

const LONG = Array.from({ length: 30_000 }, (_, i) => `line ${i}\n`).join("");

const tails: [title: string, content: string, tail: number | null, end: string][] = [
  ["all of it", "a\nb\n", null, "a\nb\n"],
  ["the last line", "a\nb\n", 1, "b\n"],
  ["the last lines, one of them unfinished", "a\nb\nc", 2, "b\nc"],
  ["as many as there are", "a\nb\n", 9, "a\nb\n"],
  ["none", "a\nb\n", 0, ""],
  ["of an empty file", "", 3, ""],
  ["lines before the last block", LONG, 20_000, LONG.slice(LONG.indexOf("line 10000\n"))],
];
for (const [title, content, tail, end] of tails) {
  test(`a tail has ${title}`, async (t) => {
    const stream = await readTail(fileOf(t, content), { follow: false, tail, clock: systemClock });
    t.is(await text(stream), end);
  });
}

test("what is followed goes on, also after it was cut", async (t) => {
  const path = fileOf(t, "one\n");
  const alive = setInterval(() => {}, 1000);
  t.teardown(() => clearInterval(alive));
  const stream = await readTail(path, { follow: true, tail: null, clock: systemClock });
  let seen = "";
  for await (const chunk of stream) {
    seen += chunk;
    if (seen === "one\n") appendFileSync(path, "two\n");
    if (seen === "one\ntwo\n") {
      truncateSync(path);
      appendFileSync(path, "new\n");
    }
    if (seen.endsWith("new\n")) break;
  }
  t.is(seen, "one\ntwo\nnew\n");
  t.true(stream.destroyed);
});

test("a file that is not there is said", async (t) => {
  await t.throwsAsync(readTail("/no/such/file", { follow: false, tail: null, clock: systemClock }), { code: "ENOENT" });
});
