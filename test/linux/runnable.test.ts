// How many threads run or wait for a processor.
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "ava";
import { RunnableThreads } from "../../src/linux/runnable.ts";
import { PacketMemory } from "../../src/packet/memory.ts";

const memory = new PacketMemory(1 << 16);

test("this thread is one of those that run", (t) => {
  const threads = new RunnableThreads(memory);
  t.true(threads.count() >= 1);
  threads.close();
});

const ROWS: [line: string, threads: number][] = [
  ["0.20 0.18 0.12 3/80 11206\n", 3],
  ["123.45 99.00 1.00 117/4096 4194303\n", 117],
  ["0.20 0.18 0.12\n", 0],
  ["", 0],
];

for (const [line, count] of ROWS) {
  test(`of ${JSON.stringify(line)} they are ${count}, at each reading`, (t) => {
    const directory = mkdtempSync(join(tmpdir(), "runnable-"));
    t.teardown(() => rmSync(directory, { recursive: true }));
    const path = join(directory, "loadavg");
    writeFileSync(path, line);
    const threads = new RunnableThreads(memory, path);
    t.is(threads.count(), count);
    writeFileSync(path, "0.00 0.00 0.00 5/9 1\n");
    t.is(threads.count(), 5);
    threads.close();
  });
}

test("a file system without the file is an error", (t) => {
  t.throws(() => new RunnableThreads(memory, "/proc/no-such-file"), { code: "ENOENT" });
});
