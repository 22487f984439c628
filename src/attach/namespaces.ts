// The network namespaces of attached containers: named so that links can be made in them, and which link is whose.
import { readFile } from "node:fs/promises";
import { run } from "../lib/command.ts";
import { messageOf } from "../lib/errors.ts";
import { exists } from "../lib/exists.ts";
import type { Log } from "../lib/log.ts";
import { formatResolvConf, parseResolvConf, type Resolver, withNdots } from "../lib/resolv-conf.ts";
import type { Container } from "../runtime/docker-engine.ts";
import { changeResolver } from "../runtime/resolver-file.ts";
import type { Sandboxes } from "../runtime/sandbox.ts";
import { namespaceOf } from "./rows.ts";

interface Bound {
  netns: string;
  /** Of the container; 0 of a namespace that is none's. */
  pid: number;
  /** Links that were there when it was bound, also those that an agent before made: name to address. */
  present: Map<string, string | null>;
  /** Ours: address to name. */
  links: Map<string, string>;
  /** The gateway that its resolv.conf names, once we wrote it. */
  resolver: string | null;
}

interface AddrJson {
  ifname: string;
  addr_info?: { family: string; local: string }[];
}

/** By subject, where none is said. */
export interface Namespaces {
  /** Whether there is a network namespace of that name. */
  exists(name: string): Promise<boolean>;
  /** Names a running container's namespace. Throws CommandError when the container is gone. */
  bindContainer(container: Container): Promise<void>;
  /** A named network namespace that is there. */
  bindNamespace(subject: string): Promise<void>;
  /** A container's namespace that an agent before named, while no engine says which it is. False when nothing runs there. */
  adopt(subject: string): Promise<boolean>;
  /** What was done by others to its links since it was bound. */
  lookAgain(subject: string): Promise<void>;
  has(subject: string): boolean;
  /** A name would keep a namespace whose container is gone. */
  unbind(subject: string): Promise<void>;
  /** Takes away the names that an agent before left of containers that are none of `subjects`. */
  unbindOthers(subjects: ReadonlySet<string>): Promise<void>;
  /** The namespace's name, and the link of each of the addresses that it has now: one that is there, else the first free. */
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
      links.delete(address); // and with it, the link
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

/** The search domains and options that Docker gave it stay. */
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

/** As a container has it that was started without a network: nobody needs to be asked for more. */
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
