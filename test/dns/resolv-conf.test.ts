// The node's resolv.conf: read at the start, and again whenever it has changed.
import { renameSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import test from "ava";
import { ResolvConf } from "../../src/dns/resolv-conf.ts";
import { VirtualClock } from "../fakes/virtual-clock.ts";
import { temporaryDirectory } from "../temporary.ts";

test("resolvers follow the file, however it is changed", async (t) => {
  const directory = temporaryDirectory("resolv");
  t.teardown(() => rmSync(directory, { recursive: true }));
  const path = join(directory, "resolv.conf");
  const other = join(directory, "other");
  const newer = join(directory, "newer");
  writeFileSync(other, "nameserver fe80::1%eth0\n");
  writeFileSync(newer, "nameserver 10.0.0.55\n");
  const clock = new VirtualClock();
  const changes: string[] = [];

  writeFileSync(path, "# by hand\nnameserver 10.0.0.53\nsearch example.org\n");
  const resolvConf = new ResolvConf(clock, path);
  t.deepEqual(resolvConf.resolvers, ["10.0.0.53"]);
  resolvConf.watch((resolvers) => changes.push(resolvers.join(" ")));

  const steps: [what: string, change: () => void, expected: string[]][] = [
    ["nothing", () => {}, []],
    ["a comment", () => writeFileSync(path, "nameserver 10.0.0.53\n"), []],
    ["written in place", () => writeFileSync(path, "nameserver 10.0.0.54\n"), ["10.0.0.54"]],
    ["gone", () => rmSync(path), []],
    ["a link", () => symlinkSync(other, path), ["fe80::1%eth0"]],
    ["replaced", () => renameSync(newer, path), ["10.0.0.55"]],
    ["empty", () => writeFileSync(path, ""), [""]],
  ];
  for (const [what, change, expected] of steps) {
    change();
    await clock.advance(2000);
    t.deepEqual(changes.splice(0), expected, what);
  }
  resolvConf.stop();
  writeFileSync(path, "nameserver 10.0.0.53\n");
  await clock.advance(10_000);
  t.deepEqual(changes, []);
});

test("without a file there are none", (t) => {
  t.deepEqual(new ResolvConf(new VirtualClock(), "/nonexistent/resolv.conf").resolvers, []);
});
