// What links, pins, the probe and the bpf file system must do, each run by bpf.test.ts in a process, a mount namespace and an
// empty network namespace of its own: `unshare --net --mount node bpf-scenarios.js TITLE`.
import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { createSocket } from "node:dgram";
import {
  chmodSync,
  chownSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  statSync,
  unlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { EVERYTHING } from "../../src/express/grounds.ts";
import { endPinnedHooks, Hooks } from "../../src/express/hooks.ts";
import { CONTROL_SHAPE, Control, GROUNDS_SHAPE, LAYOUT } from "../../src/express/layout.ts";
import { openLaneMaps } from "../../src/express/open-maps.ts";
import { Helper, Tcx } from "../../src/linux/bpf-abi.ts";
import { type MappedArray, mapArray } from "../../src/linux/bpf-array.ts";
import { BpfAssembler, r0, r1, r2, r3, r10 } from "../../src/linux/bpf-assembler.ts";
import { createMap, type MapShape } from "../../src/linux/bpf-map.ts";
import { describeMap, hasShape, programId } from "../../src/linux/bpf-objects.ts";
import { isOnBpffs, openPin, pin } from "../../src/linux/bpf-pin.ts";
import { whatBpfLacks } from "../../src/linux/bpf-probe.ts";
import { loadProgram, ProgramType } from "../../src/linux/bpf-program.ts";
import { openBpffs, removeBpffs } from "../../src/linux/bpffs.ts";
import { ifindexOf } from "../../src/linux/interfaces.ts";
import * as libc from "../../src/linux/libc.ts";
import { describeTcxLink, endTcxLink, makeTcxLink, replaceProgram, tcxPrograms } from "../../src/linux/tcx-link.ts";
import { DEADLINE_MS } from "./command.ts";

const self = fileURLToPath(import.meta.url);
const LOOPBACK = 1;
const COUNTERS: MapShape = { type: "array", keyBytes: 4, valueBytes: 8, entries: 8, name: "counters", mmapable: true };

const ip = (...args: string[]): string => execFileSync("ip", args, { encoding: "utf8" });

/** A program that counts packets in the counter `i` and ends with a verdict. */
function counting(map: number, i: number, verdict: number, name = `count${i}`): number {
  const program = new BpfAssembler();
  program.store(4, r10, -4, i).map(r1, map).mov(r2, r10).alu("add", r2, -4).call(Helper.MapLookup);
  program.when(r0, "eq", 0, "none").mov(r3, 1).atomicAdd(8, r0, 0, r3);
  program.label("none").exit(verdict);
  return loadProgram({ type: ProgramType.SchedCls, name, code: program.assemble() });
}

/** Sends a datagram by the loopback interface, and waits until the counters are as `wanted`, of each from the first on. */
async function sent(counters: MappedArray, ...wanted: number[]): Promise<void> {
  const view = new BigInt64Array(counters.buffer);
  const socket = createSocket("udp4");
  await new Promise<void>((resolve, reject) => {
    socket.send("x", 9, "127.0.0.1", (error) => (error === null ? resolve() : reject(error)));
  });
  socket.close();
  const now = () => Array.from(view.subarray(0, wanted.length), Number);
  const end = performance.now() + DEADLINE_MS;
  while (JSON.stringify(now()) !== JSON.stringify(wanted) && performance.now() < end) await delay(10);
  assert.deepEqual(now(), wanted);
}

interface Lab {
  map: number;
  counters: MappedArray;
}

/** A loopback interface that is up, and counters. */
function openLab(): Lab {
  ip("link", "set", "lo", "up");
  const map = createMap(COUNTERS);
  return { map, counters: mapArray(map, COUNTERS) };
}

/** A bpf file system of its own, in the mount namespace of this process. */
function mountBpffs(): string {
  const directory = mkdtempSync(join(tmpdir(), "overlayd-bpf-"));
  execFileSync("mount", ["-t", "bpf", "-o", "mode=0700", "overlayd-test", directory]);
  return directory;
}

/** Runs this file with a role in a process, by way of another command, and returns what it prints. */
function inProcess(argv: readonly string[], through: readonly string[] = []): string {
  const [command, ...rest] = [...through, process.execPath, self, ...argv];
  const { stdout, stderr, status, signal } = spawnSync(command!, rest, { encoding: "utf8" });
  assert.ok(status === 0 || signal === "SIGKILL", stderr);
  return stdout.trim();
}

const without = (...capabilities: string[]): string[] => {
  const list = capabilities.map((name) => `-${name}`).join(",");
  return ["setpriv", `--bounding-set=${list}`, `--inh-caps=${list}`];
};

export const scenarios: Record<string, () => unknown> = {
  async "programs see packets in the order of their tcx links, and one replaces another"() {
    const { map, counters } = openLab();
    const [last, dropping, passing] = [
      counting(map, 0, Tcx.Drop),
      counting(map, 1, Tcx.Drop),
      counting(map, 2, Tcx.Next),
    ];
    const lastLink = makeTcxLink(last, LOOPBACK);
    await sent(counters, 1, 0, 0);
    const firstLink = makeTcxLink(dropping, LOOPBACK, { first: true });
    await sent(counters, 1, 1, 0);
    replaceProgram(firstLink, passing);
    await sent(counters, 2, 1, 1);
    assert.deepEqual(tcxPrograms(LOOPBACK), [
      { program: programId(passing), link: describeTcxLink(firstLink).id, name: "count2" },
      { program: programId(last), link: describeTcxLink(lastLink).id, name: "count0" },
    ]);
    assert.deepEqual(describeTcxLink(firstLink), {
      id: describeTcxLink(firstLink).id,
      program: programId(passing),
      ifindex: LOOPBACK,
    });
    libc.close(firstLink);
    await sent(counters, 3, 1, 1);
    endTcxLink(lastLink);
    assert.equal(describeTcxLink(lastLink).ifindex, 0);
    assert.deepEqual(tcxPrograms(LOOPBACK), []);
  },

  "more programs than a query has room for are all found"() {
    const { map } = openLab();
    const programs = Array.from({ length: 40 }, (_, i) => counting(map, 0, Tcx.Next, `p${i}`));
    for (const program of programs) makeTcxLink(program, LOOPBACK);
    assert.deepEqual(
      tcxPrograms(LOOPBACK).map(({ name }) => name),
      programs.map((_, i) => `p${i}`),
    );
  },

  "a tcx link outlives its interface, says that it is gone, and cannot be used any more"() {
    const { map } = openLab();
    ip("link", "add", "veth0", "type", "veth", "peer", "name", "veth1");
    const index = ifindexOf("veth0")!;
    const program = counting(map, 0, Tcx.Next);
    const link = makeTcxLink(program, index);
    assert.equal(describeTcxLink(link).ifindex, index);
    ip("link", "delete", "veth0");
    assert.equal(ifindexOf("veth0"), undefined);
    assert.equal(describeTcxLink(link).ifindex, 0);
    const gone = { name: "SyscallError", message: new RegExp(`^bpf: BPF_LINK_UPDATE of tcx link ${link}: .*ENOLINK`) };
    assert.throws(() => replaceProgram(link, program), gone);
    libc.close(link);
    const none = (call: string) => ({ message: new RegExp(`^bpf: ${call} of tcx on interface ${index}: .*ENODEV`) });
    assert.throws(() => makeTcxLink(program, index), none("BPF_LINK_CREATE"));
    assert.throws(() => tcxPrograms(index), none("BPF_PROG_QUERY"));
  },

  "a tcx link is made only with a program, and is no map"() {
    const { map } = openLab();
    assert.throws(
      () => makeTcxLink(map, LOOPBACK),
      /^SyscallError: bpf: BPF_LINK_CREATE of tcx on interface 1: .*EINVAL/,
    );
    assert.throws(() => endTcxLink(map), /BPF_LINK_DETACH of tcx link \d+: .*EINVAL/);
    assert.throws(() => describeTcxLink(1_000_000), /BPF_OBJ_GET_INFO_BY_FD of tcx link 1000000: .*EBADFD/);
  },

  async "what is pinned outlives a process that is killed, and goes when the pins do"() {
    ip("link", "set", "lo", "up");
    const directory = mountBpffs();
    assert.ok(isOnBpffs(directory));
    assert.equal(inProcess(["--pin", directory]), "");
    const map = openPin(join(directory, "map"), "map")!;
    const counters = mapArray(map, COUNTERS);
    await sent(counters, 42);
    assert.ok(hasShape(map, COUNTERS));
    assert.ok(!hasShape(map, { ...COUNTERS, valueBytes: 16 }));
    assert.ok(!hasShape(map, { ...COUNTERS, mmapable: false }));
    const link = openPin(join(directory, "link"), "link")!;
    assert.equal(describeTcxLink(link).ifindex, LOOPBACK);
    replaceProgram(link, counting(map, 1, Tcx.Drop));
    await sent(counters, 42, 1);
    libc.close(link);
    await sent(counters, 42, 2);
    for (const name of ["map", "link"]) unlinkSync(join(directory, name));
    const end = performance.now() + DEADLINE_MS;
    while (tcxPrograms(LOOPBACK).length > 0 && performance.now() < end) await delay(10); // the kernel takes its time
    assert.deepEqual(tcxPrograms(LOOPBACK), []);
    assert.equal(openPin(join(directory, "map"), "map"), undefined);
    execFileSync("umount", [directory]);
    rmSync(directory, { recursive: true });
  },

  "a pin that cannot be made or opened says why"() {
    const { map } = openLab();
    const directory = mountBpffs();
    const path = join(directory, "map");
    pin(map, path);
    assert.throws(() => pin(map, path), new RegExp(`^SyscallError: bpf: BPF_OBJ_PIN of ${path}: .*EEXIST`));
    assert.throws(
      () => openPin(path, "link"),
      new RegExp(`^TypeError: .*${path} is no link but 'anon_inode:bpf-map'$`),
    );
    const elsewhere = mkdtempSync(join(tmpdir(), "overlayd-no-bpf-"));
    assert.throws(
      () => pin(map, join(elsewhere, "map")),
      new RegExp(`EPERM\\): ${elsewhere} is in no bpf file system$`),
    );
    assert.throws(() => pin(map, join(directory, "a", "map")), /BPF_OBJ_PIN of .*ENOENT/);
    writeFileSync(join(elsewhere, "file"), "");
    assert.throws(() => openPin(join(elsewhere, "file"), "map"), /BPF_OBJ_GET of .*EACCES/);
    rmSync(elsewhere, { recursive: true });
    execFileSync("umount", [directory]);
    rmSync(directory, { recursive: true });
  },

  "a map says how large it is"() {
    const { map } = openLab();
    const { id, memoryBytes, ...facts } = describeMap(map);
    assert.ok(id > 0);
    assert.ok(memoryBytes >= 64 && memoryBytes < 65536, `${memoryBytes} bytes`);
    assert.deepEqual(facts, { keyBytes: 4, valueBytes: 8, entries: 8, name: "counters" });
  },

  "the probe finds nothing amiss as root, and names the capability that is missing"() {
    assert.equal(whatBpfLacks(), undefined);
    assert.equal(
      inProcess(["--probe"], without("sys_admin", "perfmon")),
      "undefined",
      "CAP_BPF and CAP_NET_ADMIN are enough",
    );
    assert.match(
      inProcess(["--probe"], without("bpf", "sys_admin")),
      /^the process lacks CAP_BPF \(in a container: --cap-add BPF; a Docker that does not know BPF has SYS_ADMIN for it\): bpf: BPF_\w+ of .*EPERM/,
    );
    assert.match(
      inProcess(["--probe"], without("net_admin", "sys_admin")),
      /^the process lacks CAP_NET_ADMIN \(in a container: --cap-add NET_ADMIN\): bpf: BPF_PROG_LOAD of probe: .*EPERM/,
    );
    assert.match(
      inProcess(["--probe"], without("net_admin", "sys_admin", "bpf")),
      /^the process lacks CAP_BPF and CAP_NET_ADMIN \(in a container: --cap-add BPF --cap-add NET_ADMIN; /,
    );
    assert.match(
      inProcess(["--probe"], ["unshare", "--user", "--map-root-user"]),
      /^the process runs in a user namespace, where its capabilities are not the machine's: bpf: /,
    );
  },

  "a bpf file system is mounted once, found again, and removed with its pins"() {
    const parent = mkdtempSync(join(tmpdir(), "overlayd bpf-"));
    const directory = join(parent, "lane");
    removeBpffs(directory);
    const { pins, isOwn } = openBpffs(directory);
    assert.ok(isOwn);
    assert.ok(isOnBpffs(pins));
    assert.equal(statSync(directory).mode & 0o777, 0o700);
    pin(createMap(COUNTERS), join(pins, "map"));
    assert.deepEqual(openBpffs(directory), { pins, isOwn });
    assert.deepEqual(readdirSync(pins), ["map"]);
    removeBpffs(directory);
    assert.deepEqual(readdirSync(parent), []);
    removeBpffs(directory);
    mkdirSync(directory);
    writeFileSync(join(directory, "under"), "");
    openBpffs(directory);
    removeBpffs(directory);
    assert.deepEqual(readdirSync(directory), ["under"], "files under the mount stay");
    removeBpffs(directory);
    rmSync(parent, { recursive: true });
  },

  "maps of an agent are taken over if they have its layout; once its lease is over, no entry in them is used again"() {
    const directory = mkdtempSync(join(tmpdir(), "overlayd bpf-"));
    const { pins } = openBpffs(directory);
    const first = openLaneMaps(16, pins);
    assert.ok(!first.areAdopted);
    const counters = new Int32Array(mapArray(first.maps.grounds, GROUNDS_SHAPE).buffer);
    const before = counters[EVERYTHING]!;
    first.control.lease(process.hrtime.bigint() + 60_000_000_000n);
    assert.ok(openLaneMaps(16, pins).areAdopted);
    assert.equal(counters[EVERYTHING], before, "flows go on");
    first.control.lease(process.hrtime.bigint() - 1n);
    assert.ok(openLaneMaps(16, pins).areAdopted);
    assert.equal(counters[EVERYTHING], before + 1);
    new Uint32Array(mapArray(first.maps.control, CONTROL_SHAPE).buffer)[Control.Layout >> 2] = LAYOUT + 1;
    const anew = openLaneMaps(16, pins);
    assert.ok(!anew.areAdopted, "entries of another layout");
    assert.notEqual(describeMap(anew.maps.flows).id, describeMap(first.maps.flows).id);
    assert.ok(openLaneMaps(16, pins).areAdopted, "its pins have taken the place of those");
    removeBpffs(directory);
    rmSync(directory, { recursive: true, force: true });
  },

  "what is pinned in the place of a tcx link is removed, and keeps no agent from its start"() {
    const directory = mkdtempSync(join(tmpdir(), "overlayd bpf-"));
    const { pins } = openBpffs(directory);
    pin(createMap(COUNTERS), join(pins, `container-${LOOPBACK}`));
    const program = counting(createMap(COUNTERS), 0, Tcx.Next);
    const hooks = new Hooks({ container: program, underlay: program, node: program }, pins);
    assert.deepEqual([hooks.count, readdirSync(pins)], [0, []]);
    pin(createMap(COUNTERS), join(pins, `underlay-${LOOPBACK}`));
    endPinnedHooks(pins);
    assert.deepEqual(readdirSync(pins), []);
    removeBpffs(directory);
    rmSync(directory, { recursive: true, force: true });
  },

  "a bpf file system of an operator keeps what is not the agent's"() {
    const directory = mountBpffs();
    pin(createMap(COUNTERS), join(directory, "other"));
    const { pins, isOwn } = openBpffs(directory);
    assert.ok(!isOwn);
    pin(createMap(COUNTERS), join(pins, "map"));
    removeBpffs(directory);
    const left = readdirSync(directory).filter((name) => !name.endsWith(".debug")); // these are the kernel's own
    assert.deepEqual(left, ["other"]);
    chmodSync(directory, 0o777);
    assert.match(refusal(directory), /: its mode is 777, so that others may write \(/);
    chmodSync(directory, 0o700);
    chownSync(directory, 65534, 0);
    assert.match(refusal(directory), /: it belongs to user 65534 \(/);
    execFileSync("umount", [directory]);
    rmSync(directory, { recursive: true });
  },

  "what cannot be mounted says why, and what to do"() {
    const parent = mkdtempSync(join(tmpdir(), "overlayd-bpf-"));
    const directory = join(parent, "lane");
    assert.equal(
      inProcess(["--bpffs", directory], without("sys_admin")),
      `no bpf file system at ${directory}: mount: operation not permitted (EPERM): the process lacks CAP_SYS_ADMIN, or a ` +
        `security module forbids mounts (mount -t bpf -o mode=0700 bpf ${directory}; in a container: --volume ` +
        `/sys/fs/bpf/overlayd:${directory})`,
    );
    writeFileSync(join(parent, "file"), "");
    assert.match(refusal(join(parent, "file")), /^no bpf file system at \S+file: EEXIST/);
    rmSync(parent, { recursive: true });
  },
};

/** The text of what openBpffs() throws. */
function refusal(directory: string): string {
  try {
    openBpffs(directory);
    return "";
  } catch (error) {
    assert.equal((error as Error).name, "PlatformError");
    return (error as Error).message;
  }
}

/** Pins a map and a link with a program that counts in it, and dies. */
function pinAndDie(directory: string): void {
  const map = createMap(COUNTERS);
  new BigInt64Array(mapArray(map, COUNTERS).buffer)[0] = 41n;
  pin(map, join(directory, "map"));
  pin(makeTcxLink(counting(map, 0, Tcx.Drop), LOOPBACK), join(directory, "link"));
  process.kill(process.pid, "SIGKILL");
}

const [role, argument] = process.argv.slice(2);
if (role === "--pin") pinAndDie(argument!);
else if (role === "--probe") console.log(whatBpfLacks());
else if (role === "--bpffs") console.log(refusal(argument!));
else if (role !== undefined && process.argv[1] === self) await scenarios[role]!();
