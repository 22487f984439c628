// Takes a lab down: its agents, its tasks and their namespaces, and its directory, also those of a run that was killed.
// Nothing is removed that cannot be told to be the lab's own.
import { existsSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { removeFlowFile } from "../../src/agent/flow-file.ts";
import { run, tryRun, waitFor } from "./command.ts";

export interface LabNames {
  prefix: string;
  /** The names that the agents go by. The namespaces that they make are named after them. */
  nodeNames: readonly string[];
  directory: string;
}

export async function removeLab({ prefix, nodeNames, directory }: LabNames): Promise<void> {
  const hosts = (await listNamespaces()).filter((name) => name.startsWith(`${prefix}-`));
  for (const host of hosts) await endProcesses(host);
  // Only now, for an agent makes and removes some while it runs.
  for (const name of await listNamespaces()) {
    const startsWith = (kind: string): boolean => nodeNames.some((node) => name.startsWith(`ovl-${node}${kind}-`));
    if (!startsWith("") && !startsWith(".run") && !startsWith(".att")) continue;
    const own = nodeNames.every((node) => node.startsWith(prefix)) || (await isLinkedTo(name, hosts));
    // What was attached is somebody else's, and goes on.
    if (own && startsWith(".att")) await run(["ip", "netns", "delete", name]);
    else if (own) await removeNamespace(name);
  }
  for (const host of hosts) await removeNamespace(host);
  // Flow tables are in memory, and told by the agents' data directories.
  for (const name of existsSync(directory) ? readdirSync(directory) : [])
    removeFlowFile({ dataDir: join(directory, name, "data"), datapath: {} });
  await unmountBelow(directory);
  rmSync(directory, { recursive: true, force: true });
}

/** Takes away what tests and agents have mounted below the directory. */
export async function unmountBelow(directory: string): Promise<void> {
  for (const path of mountsBelow(directory)) if (await isReached(path)) await run(["umount", path]);
}

/** Takes a machine out of a lab that goes on: what runs on it, its tasks and its namespace. Its files stay. */
export async function removeMachine({ name, netns }: { name: string; netns: string }): Promise<void> {
  await endProcesses(netns);
  for (const task of await listNamespaces()) if (task.startsWith(`ovl-${name}-`)) await removeNamespace(task);
  await removeNamespace(netns);
}

/** The paths on which something is mounted, proc(5). */
function mountsBelow(directory: string): string[] {
  const paths = readFileSync("/proc/self/mounts", "utf8")
    .split("\n")
    .map((line) => line.split(" ")[1] ?? "");
  return paths.filter((path) => path.startsWith(`${directory}/`)).reverse();
}

/** Whether the mount is what is found at its path: a mount above it may hide it, as in a mount namespace with a /tmp of its own. */
async function isReached(path: string): Promise<boolean> {
  return (await tryRun(["mountpoint", "--quiet", path])).status === 0;
}

async function listNamespaces(): Promise<string[]> {
  if (!existsSync("/run/netns")) return [];
  return readdirSync("/run/netns");
}

/** Whether a link leads from the namespace into one of `hosts`. */
async function isLinkedTo(namespace: string, hosts: readonly string[]): Promise<boolean> {
  const { status, stdout } = await tryRun(["ip", "-n", namespace, "-json", "netns", "list-id"]);
  if (status !== 0 || stdout.trim() === "") return false;
  return (JSON.parse(stdout) as { name?: string }[]).some(({ name }) => name !== undefined && hosts.includes(name));
}

async function removeNamespace(name: string): Promise<void> {
  await endProcesses(name);
  // An agent that was stopping may have removed it meanwhile.
  if (existsSync(join("/run/netns", name))) await run(["ip", "netns", "delete", name]);
  rmSync(`/etc/netns/${name}`, { recursive: true, force: true });
}

/** Kills what runs in the namespace, and waits until nothing does: its children may be born meanwhile. */
async function endProcesses(namespace: string): Promise<void> {
  await waitFor(
    async () => {
      const pids = await processesIn(namespace);
      for (const pid of pids) {
        try {
          process.kill(pid, "SIGKILL");
        } catch (error) {
          if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
        }
      }
      return pids.length === 0;
    },
    { what: `the processes in ${namespace} to end` },
  );
}

export async function processesIn(namespace: string): Promise<number[]> {
  const { stdout } = await tryRun(["ip", "netns", "pids", namespace]);
  return stdout.split("\n").filter(Boolean).map(Number);
}
