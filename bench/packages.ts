// The programs that the bench calls beside ours: installed through apt-get where it is there, else named.
import { existsSync } from "node:fs";
import { join } from "node:path";
import { PlatformError } from "../src/lib/errors.ts";
import { run } from "../test/system/command.ts";

interface Needed {
  command: string;
  /** Debian's names. */
  packages: readonly string[];
}

const ALWAYS: readonly Needed[] = [
  { command: "iperf3", packages: ["iperf3"] },
  { command: "ethtool", packages: ["ethtool"] },
  { command: "gcc", packages: ["gcc", "libc6-dev"] },
];
const FOR_PEERS: readonly Needed[] = [
  { command: "nebula", packages: ["nebula"] },
  { command: "wireguard-go", packages: ["wireguard-go"] },
];
const INSTALL_MS = 300_000;

/** Throws PlatformError when something is missing and cannot be installed. */
export async function installPackages(peers: boolean): Promise<void> {
  const needed = peers ? [...ALWAYS, ...FOR_PEERS] : ALWAYS;
  const packages = needed.filter(({ command }) => !hasCommand(command)).flatMap(({ packages }) => packages);
  if (packages.length === 0) return;
  const what = packages.join(" ");
  if (!hasCommand("apt-get")) throw new PlatformError(`the bench needs ${what} (Debian's names)`, "install them first");
  console.log(`installing ${what} with apt-get`);
  const options = { env: { DEBIAN_FRONTEND: "noninteractive" }, timeoutMs: INSTALL_MS };
  try {
    await run(["apt-get", "update", "-q"], options);
    await run(["apt-get", "install", "-q", "-y", "--no-install-recommends", ...packages], options);
  } catch (cause) {
    throw new PlatformError(`apt-get could not install ${what}`, `apt-get install ${what}`, { cause });
  }
}

export function hasCommand(name: string): boolean {
  const folders = `${process.env.PATH}:/usr/sbin:/sbin`.split(":");
  return folders.some((folder) => folder !== "" && existsSync(join(folder, name)));
}
