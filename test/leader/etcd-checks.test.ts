// What a machine is asked before an etcd runs on it, and how it refuses.
import { chmod, readdir, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { join } from "node:path";
import test from "ava";
import { checkForEtcd, checkRoom, type EtcdCheck, syncVerdict, whyNoEtcd } from "../../src/leader/etcd-checks.ts";
import { temporaryDirectory } from "../temporary.ts";

const GiB = 1024 ** 3;

async function withDirectory(use: (directory: string) => Promise<void>): Promise<void> {
  const directory = temporaryDirectory("checks");
  try {
    await use(directory);
  } finally {
    await rm(directory, { recursive: true });
  }
}

test("a machine with Debian's etcd is well, and nothing of the checks stays on its disk", async (t) => {
  await withDirectory(async (directory) => {
    const checks = await checkForEtcd({ binary: "etcd", directory, ports: [{ address: "127.0.0.1", port: 0 }] });
    t.deepEqual(
      checks.slice(0, 2).map(({ verdict }) => verdict),
      ["well", "well"],
    );
    t.regex(checks[0]!.text, /^etcd 3\.\d+\.\d+/);
    t.deepEqual(await readdir(directory), []);
  });
});

test("a port that another process has is refused with what shows it", async (t) => {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as { port: number };
  await withDirectory(async (directory) => {
    const checks = await checkForEtcd({ binary: "etcd", directory, ports: [{ address: "127.0.0.1", port }] });
    t.deepEqual(checks[1], {
      verdict: "refused",
      text: `etcd cannot listen on 127.0.0.1:${port}: another process listens there (ss -ltnp sport = :${port})`,
    });
  });
  server.close();
});

const PROGRAMS: [title: string, script: string | undefined, expected: RegExp][] = [
  ["that is missing", undefined, /does not run: .* \(apt-get install etcd-server, or set cluster\.etcd\.binary\)$/],
  ["that is another program", "echo hello", /is not etcd \(apt-get install etcd-server/],
  [
    "that has no learners",
    "echo 'etcd Version: 3.3.27'",
    /^etcd 3\.3\.27 is '.*'; 3\.4 or newer of version 3 is needed$/,
  ],
  ["of another major version", "echo 'etcd Version: 4.0.0'", /^etcd 4\.0\.0 is /],
];
for (const [title, script, expected] of PROGRAMS) {
  test(`a program ${title} is refused`, async (t) => {
    await withDirectory(async (directory) => {
      const binary = join(directory, "etcd");
      if (script !== undefined) await writeFile(binary, `#!/bin/sh\n${script}\n`);
      if (script !== undefined) await chmod(binary, 0o755);
      const [program] = await checkForEtcd({ binary, directory, ports: [] });
      t.is(program?.verdict, "refused");
      t.regex(program!.text, expected);
    });
  });
}

const ROOM: [bytes: number, verdict: EtcdCheck["verdict"]][] = [
  [0, "refused"],
  [0.4 * GiB, "refused"],
  [1 * GiB, "warned"],
  [4 * GiB, "well"],
  [Number.POSITIVE_INFINITY, "well"],
];
for (const [bytes, verdict] of ROOM) {
  test(`${bytes / GiB} GiB free are ${verdict}`, (t) => t.is(checkRoom("/data", bytes).verdict, verdict));
}

const quick = Array.from({ length: 98 }, () => 1);
const DISKS: [title: string, times: number[], verdict: EtcdCheck["verdict"]][] = [
  ["a quick disk", [...quick, 1, 1], "well"],
  ["one write of a hundred that takes a second", [...quick, 1000, 1], "well"],
  ["two of a hundred over 50 ms", [...quick, 60, 51], "warned"],
  ["two of a hundred over 500 ms", [...quick, 900, 501], "refused"],
  ["two slow writes that ended the check early", [700, 800], "refused"],
];
for (const [title, times, verdict] of DISKS) {
  test(`${title}: ${verdict}`, (t) => t.is(syncVerdict("/data", times).verdict, verdict));
}

test("the reasons are one text, and a warning is none", (t) => {
  const slow: EtcdCheck = { verdict: "refused", text: "the disk is slow" };
  const taken: EtcdCheck = { verdict: "refused", text: "the port is taken" };
  const warned: EtcdCheck = { verdict: "warned", text: "the disk is small" };
  t.is(whyNoEtcd([warned]), undefined);
  t.is(whyNoEtcd([warned, slow, taken]), "the disk is slow; the port is taken");
});
