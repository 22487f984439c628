// The network namespaces of attached containers: named so that links can be made in them, and which link is whose.
import { writeFile } from "node:fs/promises";
import { run } from "../lib/command.ts";
import { messageOf } from "../lib/errors.ts";
import type { Log } from "../lib/log.ts";
import type { Container } from "../runtime/engine.ts";
import type { Sandboxes } from "../runtime/sandbox.ts";
import { namespaceOf } from "./attached-rows.ts";

/** The engine's file system, wherever the agent's own root is: it shares the machine's process ids. */
const ENGINE_ROOT = "/proc/1/root";

interface Bound {
  netns: string;
  /** Of the container; 0 of a namespace that is none's. */
  pid: number;
  /** Links that were there before any of ours, and ours: name to address. */
  links: Map<string, string | null>;
  /** The gateway that its resolv.conf names, once we wrote it. */
  resolver: string | null;
}

interface AddrJson {
  ifname: string;
  addr_info?: { family: string; local: string }[];
}

export class AttachedNamespaces {
  readonly #sandboxes: Sandboxes;
  readonly #log: Log;
  // BOUNDED: by the attached containers that run and namespaces; keyed by subject.
  readonly #bound = new Map<string, Bound>();

  constructor(sandboxes: Sandboxes, log: Log) {
    this.#sandboxes = sandboxes;
    this.#log = log;
  }

  /** Names a running container's namespace. Throws CommandError when the container is gone. */
  async bindContainer({ id, pid }: Container): Promise<void> {
    const bound = this.#bound.get(id);
    if (bound?.pid === pid) return;
    const netns = await this.#sandboxes.bind(id, pid);
    this.#bound.set(id, { netns, pid, links: await linksIn(netns), resolver: null });
  }

  /** A named network namespace that is there. */
  async bindNamespace(subject: string): Promise<void> {
    if (this.#bound.has(subject)) return;
    const netns = namespaceOf(subject)!;
    this.#bound.set(subject, { netns, pid: 0, links: await linksIn(netns), resolver: null });
  }

  /** A container's namespace that an agent before named, while no engine says which it is. False when nothing runs there. */
  async adopt(subject: string): Promise<boolean> {
    const netns = this.#sandboxes.nameOf(subject);
    if (!(await this.#sandboxes.exists(subject))) return false;
    if ((await run(["ip", "netns", "pids", netns])).trim() === "") return false;
    this.#bound.set(subject, { netns, pid: 0, links: await linksIn(netns), resolver: null });
    return true;
  }

  /** What was done by others to its links since it was bound. */
  async lookAgain(subject: string): Promise<void> {
    const bound = this.#bound.get(subject);
    if (bound === undefined) return;
    for (const [name, address] of await linksIn(bound.netns)) {
      if (!bound.links.has(name)) bound.links.set(name, address);
    }
  }

  has(subject: string): boolean {
    return this.#bound.has(subject);
  }

  /** A name would keep a namespace whose container is gone. */
  async unbind(subject: string): Promise<void> {
    if (namespaceOf(subject) === undefined) await this.#sandboxes.unbind(subject);
    this.#bound.delete(subject);
  }

  /** Takes away the names that an agent before left of containers that are none of `subjects`. */
  async unbindOthers(subjects: ReadonlySet<string>): Promise<void> {
    await this.#sandboxes.unbindOthers(subjects);
    for (const subject of this.#bound.keys()) if (!subjects.has(subject)) this.#bound.delete(subject);
  }

  /** The namespace's name, and one link for each address: `ethN`, the ones that it has already, else the first free. */
  linksOf(subject: string, addresses: readonly string[]): { netns: string; ifnames: string[] } | undefined {
    const bound = this.#bound.get(subject);
    if (bound === undefined) return undefined;
    return { netns: bound.netns, ifnames: addresses.map((address) => linkFor(bound.links, address)) };
  }

  /** An address is its container's no more: neither is its link. */
  free(subject: string, address: string): void {
    const links = this.#bound.get(subject)?.links;
    for (const [name, holder] of links ?? []) if (holder === address) links?.delete(name);
  }

  /**
   * Has a container without another network ask the gateway for names, in the file that Docker made for it. What its own
   * file system may have at /etc/resolv.conf is not touched: it could lead anywhere.
   */
  async pointResolver(container: Container, gateway: string): Promise<void> {
    const bound = this.#bound.get(container.id);
    if (bound === undefined || bound.resolver === gateway || container.networkMode !== "none") return;
    bound.resolver = gateway;
    try {
      await writeFile(ENGINE_ROOT + container.resolverPath, `nameserver ${gateway}\noptions ndots:0\n`);
    } catch (error) {
      this.#log.warn("a container's resolv.conf cannot be written: start it with --dns and the network's gateway", {
        endpoint: container.name,
        address: gateway,
        reason: messageOf(error),
      });
    }
  }
}

/** Takes a name for the address, if it has none yet. */
function linkFor(links: Map<string, string | null>, address: string): string {
  for (const [name, holder] of links) if (holder === address) return name;
  let index = 0;
  while (links.has(`eth${index}`)) index++;
  links.set(`eth${index}`, address);
  return `eth${index}`;
}

async function linksIn(netns: string): Promise<Map<string, string | null>> {
  const rows = JSON.parse(await run(["ip", "-n", netns, "-json", "address", "show"])) as AddrJson[];
  return new Map(
    rows.map(({ ifname, addr_info = [] }) => [
      ifname,
      addr_info.find(({ family }) => family === "inet")?.local ?? null,
    ]),
  );
}
