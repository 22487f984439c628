// Settings under /proc/sys/net, which are those of the network namespace of the process that reads them.
import { closeSync, openSync, readSync } from "node:fs";
import { readdir, writeFile } from "node:fs/promises";
import { setImmediate as nextEvents } from "node:timers/promises";
import { PlatformError } from "../lib/errors.ts";
import type { Log } from "../lib/log.ts";

/** Values by path below /proc/sys/net, such as "ipv4/conf/overlay0/rp_filter". */
export type Sysctls = Map<string, string>;

const ROOT = "/proc/sys/net";
const CONF = "ipv4/conf";

/** Settings that are read before other work of the thread has its turn: less than a millisecond. */
const TOGETHER = 64;
const text = Buffer.alloc(64);

/** The value, a number; undefined where the kernel or the link does not have the setting. The kernel answers from memory. */
function readSysctl(path: string): string | undefined {
  let fd: number | undefined;
  try {
    fd = openSync(`${ROOT}/${path}`, "r");
    return text.toString("latin1", 0, readSync(fd, text)).trim();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined; // a link may also go while it is read
    throw error;
  } finally {
    if (fd !== undefined) closeSync(fd);
  }
}

/** The values of these settings; those that the kernel or a link does not have are left out. */
export async function readSysctls(paths: Iterable<string>): Promise<Sysctls> {
  const sysctls: Sysctls = new Map();
  let read = 0;
  for (const path of paths) {
    if (++read % TOGETHER === 0) await nextEvents();
    const value = readSysctl(path);
    if (value !== undefined) sysctls.set(path, value);
  }
  return sysctls;
}

/** Throws PlatformError with the command that does it by hand. A device that has gone meanwhile has no settings. */
export async function writeSysctl(path: string, value: string): Promise<void> {
  try {
    await writeFile(`${ROOT}/${path}`, value);
  } catch (error) {
    // sysctl(8) swaps the two separators, for the sake of devices with a dot in their name.
    const name = ["net", ...path.split("/").map((part) => part.replaceAll(".", "/"))].join(".");
    const { code } = error as NodeJS.ErrnoException;
    if (code === "ENOENT") return;
    throw new PlatformError(`${name} cannot be set (${code})`, `sysctl -w ${name}=${value}`, { cause: error });
  }
}

/**
 * The kernel takes the larger of `all` and the device's own value, and the TUN needs 0 while the containers' links
 * need 1. So what `all` says moves into each device and into `default`: nothing else is filtered any differently.
 */
export async function moveReversePathFilter(log: Log): Promise<void> {
  const all = Number(readSysctl(`${CONF}/all/rp_filter`));
  if (all === 0) return;
  log.warn("net.ipv4.conf.all.rp_filter moves into each device, because overlayd needs it to be 0", {
    reason: `it was ${all}`,
  });
  for (const device of await readdir(`${ROOT}/${CONF}`)) {
    if (device === "all") continue;
    const path = `${CONF}/${device}/rp_filter`;
    const own = readSysctl(path);
    if (own !== undefined && Number(own) < all) await writeSysctl(path, String(all));
  }
  await writeSysctl(`${CONF}/all/rp_filter`, "0");
}
