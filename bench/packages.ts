// Programs of others that the bench calls. They are installed with apt-get; where there is none, they are named.
import { existsSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { PlatformError } from "../src/lib/errors.ts";
import { run } from "../test/system/command.ts";
import type { BenchOptions, Group } from "./options.ts";

interface Needed {
  command: string;
  /** Debian packages that bring the command. */
  packages: readonly string[];
}

const ALWAYS: readonly Needed[] = [
  { command: "iperf3", packages: ["iperf3"] },
  { command: "ethtool", packages: ["ethtool"] },
  { command: "ping", packages: ["iputils-ping"] },
  { command: "sysctl", packages: ["procps"] },
  { command: "gcc", packages: ["gcc", "libc6-dev"] },
];
const FOR_PEERS: readonly Needed[] = [
  { command: "nebula", packages: ["nebula"] },
  { command: "wireguard-go", packages: ["wireguard-go"] },
];
const FOR_GROUP: Partial<Record<Group, readonly Needed[]>> = {
  dns: [
    { command: "dnsperf", packages: ["dnsperf"] },
    { command: "dnsmasq", packages: ["dnsmasq-base"] },
  ],
  ingress: [
    { command: "wrk", packages: ["wrk"] },
    { command: "haproxy", packages: ["haproxy"] },
    { command: "nginx", packages: ["nginx"] },
  ],
  control: [
    { command: "dockerd", packages: ["docker.io"] },
    { command: "dnsperf", packages: ["dnsperf"] },
  ],
  managers: [{ command: "etcd", packages: ["etcd-server"] }],
  changes: [{ command: "dockerd", packages: ["docker.io"] }],
};
const INSTALL_MS = 300_000;
/** Debian's packages run this program before they start a service of theirs; its status 101 forbids that. */
const POLICY = "/usr/sbin/policy-rc.d";

/** Throws PlatformError when something is missing and cannot be installed. */
export async function installPackages({ peers, groups }: Pick<BenchOptions, "peers" | "groups">): Promise<void> {
  const needed = [...ALWAYS, ...(peers ? FOR_PEERS : []), ...groups.flatMap((group) => FOR_GROUP[group] ?? [])];
  const packages = needed.filter(({ command }) => !hasCommand(command)).flatMap(({ packages }) => packages);
  if (packages.length === 0) return;
  const what = packages.join(" ");
  if (!hasCommand("apt-get")) throw new PlatformError(`the bench needs ${what} (Debian's names)`, "install them first");
  console.log(`installing ${what} with apt-get`);
  const options = { env: { DEBIAN_FRONTEND: "noninteractive" }, timeoutMs: INSTALL_MS };
  const hasPolicy = existsSync(POLICY);
  if (!hasPolicy) writeFileSync(POLICY, "#!/bin/sh\nexit 101\n", { mode: 0o755 });
  try {
    await run(["apt-get", "update", "-q"], options);
    await run(["apt-get", "install", "-q", "-y", "--no-install-recommends", ...packages], options);
  } catch (cause) {
    throw new PlatformError(`apt-get could not install ${what}`, `apt-get install ${what}`, { cause });
  } finally {
    if (!hasPolicy) rmSync(POLICY, { force: true });
  }
}

export function hasCommand(name: string): boolean {
  const folders = `${process.env.PATH}:/usr/sbin:/sbin`.split(":");
  return folders.some((folder) => folder !== "" && existsSync(join(folder, name)));
}
