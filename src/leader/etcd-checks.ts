// What a machine needs before an etcd runs on it: the program, its ports, room, and a disk that keeps what it is given.
import { mkdir, open, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { join } from "node:path";
import { type Clock, systemClock } from "../lib/clock.ts";
import { run } from "../lib/command.ts";
import { messageOf } from "../lib/errors.ts";
import { freeBytes } from "./disk-room.ts";

/** `refused`: no etcd may run there; `warned`: it may, and is told. */
type Verdict = "well" | "warned" | "refused";

export interface EtcdCheck {
  verdict: Verdict;
  /** A sentence without its full stop. */
  text: string;
  /** A person may have etcd run there all the same. */
  mayBeForced?: true;
}

interface EtcdChecksOptions {
  binary: string;
  /** Where its data will be; made when missing. */
  directory: string;
  ports: readonly { address: string; port: number }[];
  clock?: Clock;
}

/** Learners came with 3.4. */
const OLDEST = [3, 4] as const;
const MiB = 1024 ** 2;
/** Its quota, and the log besides. */
const ROOM_WARN_BYTES = 3 * 1024 * MiB;
const ROOM_NEEDED_BYTES = 512 * MiB;
const WRITES = 100;
/** About an entry of etcd's log. */
const WRITE_BYTES = 2300;
const SYNC_WARN_MS = 50;
const SYNC_REFUSE_MS = 500;
/** So many slow writes of WRITES settle the 99th percentile. */
const SLOW_WRITES = 2;

export async function checkForEtcd({
  binary,
  directory,
  ports,
  clock = systemClock,
}: EtcdChecksOptions): Promise<EtcdCheck[]> {
  await mkdir(directory, { recursive: true, mode: 0o700 });
  return [
    await checkProgram(binary),
    ...(await Promise.all(ports.map(checkPort))),
    checkRoom(directory, await freeBytes(directory)),
    syncVerdict(directory, await syncTimes(directory, clock)),
  ];
}

/** What keeps etcd from running there, as one text; undefined: nothing. */
export function whyNoEtcd(checks: readonly EtcdCheck[], isForced = false): string | undefined {
  const refused = checks.filter(({ verdict, mayBeForced }) => verdict === "refused" && !(isForced && mayBeForced));
  const reasons = refused.map(({ text }) => text);
  return reasons.length === 0 ? undefined : reasons.join("; ");
}

async function checkProgram(binary: string): Promise<EtcdCheck> {
  const mend = "apt-get install etcd-server, or set cluster.etcd.binary";
  let text: string;
  try {
    text = await run([binary, "--version"]);
  } catch (error) {
    return { verdict: "refused", text: `'${binary}' does not run: ${withoutMend(messageOf(error))} (${mend})` };
  }
  const version = /^etcd Version: (\d+)\.(\d+)\.\S+/m.exec(text);
  if (version === null) return { verdict: "refused", text: `'${binary}' is not etcd (${mend})` };
  const [major, minor] = [Number(version[1]), Number(version[2])];
  const name = `etcd ${version[0].slice("etcd Version: ".length)}`;
  if (major !== OLDEST[0] || minor < OLDEST[1]) {
    return { verdict: "refused", text: `${name} is '${binary}'; ${OLDEST.join(".")} or newer of version 3 is needed` };
  }
  return { verdict: "well", text: name };
}

/** A PlatformError ends with its own mend. */
function withoutMend(message: string): string {
  return message.replace(/ \(apt-get install [^)]*\)$/, "");
}

async function checkPort({ address, port }: { address: string; port: number }): Promise<EtcdCheck> {
  const error = await new Promise<NodeJS.ErrnoException | undefined>((resolve) => {
    const server = createServer();
    server.once("error", resolve);
    server.listen({ host: address, port, exclusive: true }, () => server.close(() => resolve(undefined)));
  });
  if (error === undefined) return { verdict: "well", text: `${address}:${port} is free` };
  const why = error.code === "EADDRINUSE" ? "another process listens there" : error.message;
  return { verdict: "refused", text: `etcd cannot listen on ${address}:${port}: ${why} (ss -ltnp sport = :${port})` };
}

export function checkRoom(directory: string, bytes: number): EtcdCheck {
  const text = `${bytes === Number.POSITIVE_INFINITY ? "enough" : `${Math.floor(bytes / MiB)} MiB`} free at ${directory}`;
  if (bytes < ROOM_NEEDED_BYTES) {
    return { verdict: "refused", text: `only ${text}: etcd needs ${ROOM_NEEDED_BYTES / MiB} MiB to begin` };
  }
  if (bytes < ROOM_WARN_BYTES) {
    return { verdict: "warned", text: `only ${text}: etcd may come to use ${ROOM_WARN_BYTES / MiB} MiB` };
  }
  return { verdict: "well", text };
}

/** How long each of the writes took until it was durable; fewer of them when the disk is too slow anyway. */
async function syncTimes(directory: string, clock: Clock): Promise<number[]> {
  const path = join(directory, "sync-test");
  const file = await open(path, "w", 0o600);
  try {
    const bytes = Buffer.alloc(WRITE_BYTES);
    const times: number[] = [];
    while (times.length < WRITES && times.filter((ms) => ms > SYNC_REFUSE_MS).length < SLOW_WRITES) {
      const began = clock.monotonic();
      await file.write(bytes);
      await file.datasync();
      times.push(clock.monotonic() - began);
    }
    return times;
  } finally {
    await file.close();
    await rm(path, { force: true });
  }
}

/** By the 99th percentile: of a hundred, the second slowest. */
export function syncVerdict(directory: string, times: readonly number[]): EtcdCheck {
  const slowest = times.toSorted((a, b) => b - a);
  const ms = slowest[Math.min(1, slowest.length - 1)] ?? 0;
  const text = `a durable write to ${directory} takes up to ${ms < 10 ? ms.toFixed(1) : Math.round(ms)} ms`;
  if (ms > SYNC_REFUSE_MS) {
    return { verdict: "refused", mayBeForced: true, text: `${text}: etcd would lose its leader again and again` };
  }
  if (ms > SYNC_WARN_MS) return { verdict: "warned", text: `${text}: a leader may be lost under load` };
  return { verdict: "well", text };
}
