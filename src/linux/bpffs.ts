// The bpf file system that holds this agent's pins: one that an operator has bound at a directory, as into a container, or one
// that is mounted there. A mount of the agent's own in a container goes when the container does.
import { mkdirSync, readFileSync, realpathSync, rmdirSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import { messageOf, PlatformError } from "../lib/errors.ts";
import { isOnBpffs } from "./bpf-pin.ts";
import * as libc from "./libc.ts";

/** What mountinfo has as the source of a file system that an agent mounted. */
const OWN_SOURCE = "overlayd";
/** Where pins are: a file system that was found may hold pins of other programs. */
const PINS = "overlayd";
const OWNER_ONLY = 0o700;
const WRITABLE_BY_OTHERS = 0o022;
const NOSUID_NODEV_NOEXEC = 2 | 4 | 8;
const MNT_DETACH = 2;

interface Bpffs {
  /** The directory for pins. */
  readonly pins: string;
  /** An agent mounted it, not an operator. */
  readonly isOwn: boolean;
}

/** Where openBpffs() has pins. */
export function pinsIn(directory: string): string {
  return join(directory, PINS);
}

/** Finds a bpf file system at `directory`, or mounts one, and makes a directory for pins in it. Throws PlatformError. */
export function openBpffs(directory: string): Bpffs {
  try {
    mkdirSync(directory, { recursive: true, mode: OWNER_ONLY });
    if (!isOnBpffs(directory)) mountAt(directory);
    const { uid, mode } = statSync(directory);
    if (uid !== process.geteuid!()) throw new Error(`it belongs to user ${uid}`);
    if ((mode & WRITABLE_BY_OTHERS) !== 0)
      throw new Error(`its mode is ${(mode & 0o7777).toString(8)}, so that others may write`);
    const pins = pinsIn(directory);
    mkdirSync(pins, { recursive: true, mode: OWNER_ONLY });
    return { pins, isOwn: isOwnMount(directory) };
  } catch (error) {
    const mend = `mount -t bpf -o mode=0700 bpf ${directory}; in a container: --volume /sys/fs/bpf/overlayd:${directory}`;
    throw new PlatformError(`no bpf file system at ${directory}: ${messageOf(error)}`, mend, { cause: error });
  }
}

/** Removes the agent's pins, and the file system where an agent mounted it. Nothing happens where there is none. */
export function removeBpffs(directory: string): void {
  if (statSync(directory, { throwIfNoEntry: false }) === undefined || !isOnBpffs(directory)) return;
  rmSync(pinsIn(directory), { recursive: true, force: true });
  if (!isOwnMount(directory)) return;
  libc.checked(`umount2 of ${directory}`, libc.unmount(directory, MNT_DETACH));
  try {
    rmdirSync(directory);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOTEMPTY") throw error; // files that lay under the mount stay
  }
}

function mountAt(directory: string): void {
  const result = libc.mount(OWN_SOURCE, directory, "bpf", NOSUID_NODEV_NOEXEC, "mode=0700");
  if (result === 0) return;
  const errno = libc.errno();
  const details: Readonly<Record<number, string>> = {
    [libc.Errno.NotPermitted]: "the process lacks CAP_SYS_ADMIN, or a security module forbids mounts",
    [libc.Errno.NoDevice]: "the kernel has no bpf file system",
  };
  throw libc.syscallError("mount", errno, details[errno]);
}

/** Whether what is mounted at the directory is a bpf file system that an agent mounted. */
function isOwnMount(directory: string): boolean {
  const path = realpathSync(directory);
  const mounts = readFileSync("/proc/self/mountinfo", "utf8").trimEnd().split("\n").map(readMount);
  const top = mounts.findLast((mount) => mount.path === path);
  return top !== undefined && top.type === "bpf" && top.source === OWN_SOURCE;
}

/** A line of mountinfo, proc(5): the fields after the lone hyphen are the type and the source. */
function readMount(line: string): { path: string; type: string; source: string } {
  const fields = line.split(" ");
  const [type, source] = fields.slice(fields.indexOf("-") + 1);
  return { path: unescapeOctal(fields[4]!), type: type!, source: source! };
}

/** Spaces and the like are octal in mountinfo. */
function unescapeOctal(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 8)));
}
