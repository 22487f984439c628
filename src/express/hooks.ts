// Where the lane's programs are: a tcx link on the underlay's link, on the host's end of each container's link and on the node's links,
// pinned under the interface's index. An agent takes over the pins of the one before it, and puts its own programs in their place.
import { readdirSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import { openPin, pin } from "../linux/bpf-pin.ts";
import * as libc from "../linux/libc.ts";
import { describeTcxLink, endTcxLink, makeTcxLink, replaceProgram } from "../linux/tcx-link.ts";

export type HookKind = "container" | "underlay" | "node";
const PIN_NAME = /^(container|underlay|node)-(\d+)$/;

export class Hooks {
  readonly #programs: Record<HookKind, number>;
  readonly #pins: string | undefined;
  /** Descriptors of tcx links. BOUNDED: by the links of this node; keyed by the kind and the interface's index. */
  readonly #links = new Map<string, number>();

  /** `programs` are descriptors, of this object from now on. Without `pins` the tcx links end with this process. */
  constructor(programs: Record<HookKind, number>, pins: string | undefined) {
    this.#programs = programs;
    this.#pins = pins;
    for (const name of pinnedHooks(pins)) this.#adopt(name);
  }

  /** How many interfaces have a program. */
  get count(): number {
    return this.#links.size;
  }

  /**
   * Makes it so that the program of this kind is on these interfaces, and on no others. An interface that is gone meanwhile is left
   * out. Throws SyscallError.
   */
  keep(kind: HookKind, ifindexes: ReadonlySet<number>): void {
    for (const [name, link] of this.#links) {
      const [ofKind, index] = splitName(name);
      if (ofKind === kind && (!ifindexes.has(index) || describeTcxLink(link).ifindex !== index)) this.#end(name, link);
    }
    for (const index of ifindexes) {
      const name = `${kind}-${index}`;
      if (!this.#links.has(name)) this.#make(name, kind, index);
    }
  }

  /** Lets go of all. What is pinned stays in force. */
  close(): void {
    for (const fd of [...this.#links.values(), ...Object.values(this.#programs)]) libc.close(fd);
    this.#links.clear();
  }

  #adopt(name: string): void {
    const path = join(this.#pins!, name);
    const link = openHook(path);
    if (link === undefined) {
      rmSync(path, { force: true });
      return;
    }
    const [kind, index] = splitName(name);
    try {
      if (describeTcxLink(link).ifindex === index) {
        replaceProgram(link, this.#programs[kind]);
        this.#links.set(name, link);
        return;
      }
    } catch (error) {
      if (!(error instanceof libc.SyscallError)) throw error; // the interface went meanwhile
    }
    this.#end(name, link);
  }

  #make(name: string, kind: HookKind, index: number): void {
    let link: number;
    try {
      link = makeTcxLink(this.#programs[kind], index);
    } catch (error) {
      if (error instanceof libc.SyscallError && error.errno === libc.Errno.NoDevice) return;
      throw error;
    }
    this.#links.set(name, link);
    if (this.#pins === undefined) return;
    const path = join(this.#pins, name);
    rmSync(path, { force: true });
    pin(link, path);
  }

  #end(name: string, link: number): void {
    this.#links.delete(name);
    endLink(link);
    if (this.#pins !== undefined) rmSync(join(this.#pins, name), { force: true });
  }
}

/** Takes the programs off all interfaces that an agent has left pinned here: at once, or a little later where bpf(2) is refused. */
export function endPinnedHooks(pins: string): void {
  for (const name of pinnedHooks(pins)) {
    const path = join(pins, name);
    const link = openHook(path);
    if (link !== undefined) endLink(link);
    rmSync(path, { force: true }); // without its pin one that could not be opened ends as well
  }
}

/** undefined: no tcx link is pinned there, or bpf(2) is refused. */
function openHook(path: string): number | undefined {
  try {
    return openPin(path, "link");
  } catch (error) {
    if (error instanceof TypeError || error instanceof libc.SyscallError) return undefined;
    throw error;
  }
}

function pinnedHooks(pins: string | undefined): string[] {
  if (pins === undefined || statSync(pins, { throwIfNoEntry: false }) === undefined) return [];
  return readdirSync(pins).filter((name) => PIN_NAME.test(name));
}

function splitName(name: string): [kind: HookKind, index: number] {
  const [, kind, index] = PIN_NAME.exec(name)!;
  return [kind as HookKind, Number(index)];
}

function endLink(link: number): void {
  try {
    endTcxLink(link);
  } catch (error) {
    if (!(error instanceof libc.SyscallError)) throw error; // its interface is gone
  } finally {
    libc.close(link);
  }
}
