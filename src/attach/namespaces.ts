// The network namespaces of attached containers: each gets a name, so that links can be made in it, and each of its
// addresses gets a link.
import { readFile } from "node:fs/promises";
import { run } from "../lib/command.ts";
import { messageOf } from "../lib/errors.ts";
import { exists } from "../lib/exists.ts";
import type { Log } from "../lib/log.ts";
import { formatResolvConf, parseResolvConf, type Resolver, withNdots } from "../lib/resolv-conf.ts";
import type { Container } from "../runtime/docker-engine.ts";
import { changeResolver } from "../runtime/resolver-file.ts";
import type { Sandboxes } from "../runtime/sandbox.ts";
import { namespaceOf } from "./subject.ts";

interface Bound {
  netns: string;
  /** The first process of the container; 0 for a namespace without a container. */
  pid: number;
  /** Links that were there when it was bound, also those that an earlier agent made: name to address. */
  present: Map<string, string | null>;
  /** This agent's links: address to name. */
  links: Map<string, string>;
  /** The gateway that this agent wrote into its resolv.conf. */
  resolver: string | null;
}

interface AddrJson {
  ifname: string;
  addr_info?: { family: string; local: string }[];
}

/** What is bound is at hand under its subject (see Attachment): its network namespace has a name. */
export interface Namespaces {
  /** Whether there is a network namespace of that name. */
  exists(name: string): Promise<boolean>;
  /** Names a running container's namespace. Throws CommandError when the container is gone. */
  bindContainer(container: Container): Promise<void>;
  /** Binds a network namespace that has a name already. */
  bindNamespace(subject: string): Promise<void>;
  /** Binds a container's namespace that an earlier agent named, while Docker is away. False when nothing runs there. */
  adopt(subject: string): Promise<boolean>;
  /** Reads the links that others have made in it since it was bound. */
  lookAgain(subject: string): Promise<void>;
  has(subject: string): boolean;
  /** Takes the name away, which would keep the namespace of a container that is gone. */
  unbind(subject: string): Promise<void>;
  /** Takes away the names that an earlier agent gave to containers other than `subjects`. */
  unbindOthers(subjects: ReadonlySet<string>): Promise<void>;
  /** The namespace's name, and a link for each of its addresses: the one that has the address, else the first free name. */
  linksOf(
    subject: string,
    addresses: ReadonlySet<string>,
  ): { netns: string; links: ReadonlyMap<string, string> } | undefined;
  /** Makes a container without another network ask the gateway for names, under the domains of `search` first. */
  pointResolver(container: Container, gateway: string, search: readonly string[]): Promise<void>;
}

export class AttachedNamespaces implements Namespaces {
  readonly #sandboxes: Sandboxes;
  readonly #log: Log;
  // BOUNDED: by the attached containers that run and namespaces; keyed by subject.
  readonly #bound = new Map<string, Bound>();

  constructor(sandboxes: Sandboxes, log: Log) {
    this.#sandboxes = sandboxes;
    this.#log = log;
  }

  exists(name: string): Promise<boolean> {
    return exists(`/run/netns/${name}`);
  }

  async bindContainer({ id, pid }: Container): Promise<void> {
    const bound = this.#bound.get(id);
    if (bound?.pid === pid) return;
    const [netns, isEmpty] = await Promise.all([this.#sandboxes.bind(id, pid), hasOnlyLoopback(pid)]);
    this.#bind(id, netns, pid, isEmpty ? new Map() : await linksIn(netns));
  }

  async bindNamespace(subject: string): Promise<void> {
    if (this.#bound.has(subject)) return;
    const netns = namespaceOf(subject)!;
    this.#bind(subject, netns, 0, await linksIn(netns));
  }

  async adopt(subject: string): Promise<boolean> {
    const netns = this.#sandboxes.nameOf(subject);
    if ((await this.#sandboxes.pids(subject)).length === 0) return false;
    this.#bind(subject, netns, 0, await linksIn(netns));
    return true;
  }

  async lookAgain(subject: string): Promise<void> {
    const bound = this.#bound.get(subject);
    if (bound === undefined) return;
    for (const [name, address] of await linksIn(bound.netns)) {
      if (![...bound.links.values()].includes(name)) bound.present.set(name, address);
    }
  }

  has(subject: string): boolean {
    return this.#bound.has(subject);
  }

  async unbind(subject: string): Promise<void> {
    if (namespaceOf(subject) === undefined) await this.#sandboxes.unbind(subject);
    this.#bound.delete(subject);
  }

  async unbindOthers(subjects: ReadonlySet<string>): Promise<void> {
    await this.#sandboxes.unbindOthers(subjects);
    for (const subject of this.#bound.keys()) {
      if (namespaceOf(subject) === undefined && !subjects.has(subject)) this.#bound.delete(subject);
    }
  }

  linksOf(
    subject: string,
    addresses: ReadonlySet<string>,
  ): { netns: string; links: ReadonlyMap<string, string> } | undefined {
    const bound = this.#bound.get(subject);
    if (bound === undefined) return undefined;
    const { netns, present, links } = bound;
    for (const [address, name] of links) {
      if (addresses.has(address)) continue;
      links.delete(address); // links.apply removes the link
      present.delete(name);
    }
    for (const address of addresses) {
      if (!links.has(address)) links.set(address, nameFor(address, present, new Set(links.values())));
    }
    return { netns, links };
  }

  async pointResolver(container: Container, gateway: string, search: readonly string[]): Promise<void> {
    const bound = this.#bound.get(container.id);
    if (bound === undefined || bound.resolver === gateway || container.networkMode !== "none") return;
    bound.resolver = gateway;
    try {
      await changeResolver(container.pid, (text) => pointed(parseResolvConf(text), gateway, search));
    } catch (error) {
      this.#log.warn("a container's resolv.conf cannot be written: start it with --dns and the network's gateway", {
        endpoint: container.name,
        address: gateway,
        reason: messageOf(error),
      });
    }
  }

  #bind(subject: string, netns: string, pid: number, present: Bound["present"]): void {
    this.#bound.set(subject, { netns, pid, present, links: new Map(), resolver: null });
  }
}

/** The resolv.conf that names the gateway; search domains and options that Docker wrote stay. */
function pointed(before: Resolver, gateway: string, search: readonly string[]): string {
  return formatResolvConf({
    nameservers: [gateway],
    search: [...new Set([...search, ...before.search])],
    options: withNdots(before.options),
  });
}

function nameFor(address: string, present: Bound["present"], taken: ReadonlySet<string>): string {
  for (const [name, holder] of present) if (holder === address) return name;
  let index = 0;
  while (present.has(`eth${index}`) || taken.has(`eth${index}`)) index++;
  return `eth${index}`;
}

/** Whether the process has no link but lo, as in a container started without a network: then `ip` need not be run. */
async function hasOnlyLoopback(pid: number): Promise<boolean> {
  const lines = (await readFile(`/proc/${pid}/net/dev`, "utf8")).trim().split("\n");
  return lines.slice(2).every((line) => line.trim().startsWith("lo:"));
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
