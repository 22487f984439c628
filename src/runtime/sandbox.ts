// Named network namespaces, each with a resolv.conf of its own. They outlive the agent.
import { readdir, rm, stat } from "node:fs/promises";
import type { ContainerNaming } from "../cluster/container-naming.ts";
import { CommandError, run } from "../lib/command.ts";
import { PlatformError } from "../lib/errors.ts";
import { exists } from "../lib/exists.ts";
import { writeEtc } from "./etc-files.ts";

const NETNS = "/run/netns";
/** `ip netns exec` binds what is here over /etc. */
const ETC_NETNS = "/etc/netns";
const ID_CHARS = 8;

interface SandboxesOptions {
  /** The node's name: nodes may share a machine. */
  node: string;
  /** Tasks, `overlayctl run` and attached containers keep theirs apart. */
  kind: "task" | "run" | "attached";
}

export class Sandboxes {
  readonly #prefix: string;

  constructor({ node, kind }: SandboxesOptions) {
    this.#prefix = { task: `ovl-${node}-`, run: `ovl-${node}.run-`, attached: `ovl-${node}.att-` }[kind];
  }

  /** The namespace's name under /run/netns. */
  nameOf(id: string): string {
    return this.#prefix + id.slice(0, ID_CHARS);
  }

  exists(id: string): Promise<boolean> {
    return exists(`${NETNS}/${this.nameOf(id)}`);
  }

  /**
   * Makes the sandbox, or brings an existing one up to date. `address`: the address of the process that is to run in it.
   * Returns its name. Throws PlatformError.
   */
  async create(id: string, naming: ContainerNaming, address: string | null): Promise<string> {
    const name = this.nameOf(id);
    try {
      if (!(await isNamespace(name))) {
        // What an unmounted namespace leaves is an empty file.
        if (await this.exists(id)) await run(["ip", "netns", "del", name]);
        await run(["ip", "netns", "add", name]);
      }
      await run(["ip", "-n", name, "link", "set", "dev", "lo", "up"]);
      await writeEtc(`${ETC_NETNS}/${name}`, naming, address);
    } catch (error) {
      if (error instanceof PlatformError) throw error;
      throw new PlatformError(`network namespace '${name}' cannot be made`, `ip netns add ${name}`, { cause: error });
    }
    return name;
  }

  /** Names the namespace that a process is in, also when the name was another's before. Returns the name. */
  async bind(id: string, pid: number): Promise<string> {
    const name = this.nameOf(id);
    const [named, own] = await Promise.all([inodeOf(`${NETNS}/${name}`), inodeOf(`/proc/${pid}/ns/net`)]);
    if (named !== undefined && named === own) return name;
    await this.unbind(id);
    await run(["ip", "netns", "attach", name, String(pid)]);
    return name;
  }

  /** Takes the name away. What runs in the namespace goes on, and the namespace ends with it. */
  async unbind(id: string): Promise<void> {
    if (await this.exists(id)) await run(["ip", "netns", "del", this.nameOf(id)]);
  }

  /** Removes the links into the namespace at once: without this they stay until the kernel has ended the namespace. */
  async unlink(id: string): Promise<void> {
    const name = this.nameOf(id);
    if (!(await isNamespace(name))) return;
    const links = JSON.parse((await run(["ip", "-n", name, "-json", "link", "show", "type", "veth"])) || "[]");
    for (const { ifname } of links as { ifname: string }[]) await run(["ip", "-n", name, "link", "del", ifname]);
  }

  /** Takes the names away from all but `ids`. */
  async unbindOthers(ids: Iterable<string>): Promise<void> {
    const kept = new Set([...ids].map((id) => this.nameOf(id)));
    for (const name of await this.list()) if (!kept.has(name)) await run(["ip", "netns", "del", name]);
  }

  /** Ends with SIGKILL what still runs in the namespace, and removes it. One that is gone is no error. */
  async remove(id: string): Promise<void> {
    await this.#remove(this.nameOf(id));
  }

  /** Ends with SIGKILL what still runs in the namespace. */
  async clear(id: string): Promise<void> {
    await clear(this.nameOf(id));
  }

  /** The processes in the namespace. */
  async pids(id: string): Promise<number[]> {
    return (await this.exists(id)) ? pidsIn(this.nameOf(id)) : [];
  }

  /** Removes the namespaces of this node and kind but those of `ids()`, which is called before each removal. */
  async prune(ids: () => Iterable<string>): Promise<void> {
    for (const name of await this.list()) {
      if (![...ids()].some((id) => this.nameOf(id) === name)) await this.#remove(name);
    }
  }

  /** The names of this node's namespaces of this kind. */
  async list(): Promise<string[]> {
    const names = new Set([...(await namesIn(NETNS)), ...(await namesIn(ETC_NETNS))]);
    return [...names].filter(
      (name) => name.startsWith(this.#prefix) && /^[0-9a-z]{8}$/.test(name.slice(this.#prefix.length)),
    );
  }

  async #remove(name: string): Promise<void> {
    if (await isNamespace(name)) await clear(name);
    if ((await namesIn(NETNS)).includes(name)) await run(["ip", "netns", "del", name]);
    await rm(`${ETC_NETNS}/${name}`, { recursive: true, force: true });
  }
}

async function isNamespace(name: string): Promise<boolean> {
  try {
    await run(["ip", "-n", name, "link", "show", "dev", "lo"]);
    return true;
  } catch (error) {
    if (error instanceof CommandError) return false;
    throw error;
  }
}

/** The number that tells a namespace from others. */
async function inodeOf(path: string): Promise<bigint | undefined> {
  try {
    return (await stat(path, { bigint: true })).ino;
  } catch {
    return undefined; // the process or the name is gone
  }
}

async function clear(name: string): Promise<void> {
  for (const pid of await pidsIn(name)) kill(pid);
}

async function pidsIn(name: string): Promise<number[]> {
  const output = await run(["ip", "netns", "pids", name]);
  return output.split("\n").filter(Boolean).map(Number);
}

function kill(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
  }
}

async function namesIn(folder: string): Promise<string[]> {
  try {
    return await readdir(folder);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return [];
    throw error;
  }
}
