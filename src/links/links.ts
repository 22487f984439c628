// Keeps the kernel's links, routes, rules and filters as desired: reads, compares, carries out, and looks again.
import { isDeepStrictEqual } from "node:util";
import type { Clock } from "../lib/clock.ts";
import { messageOf, PlatformError } from "../lib/errors.ts";
import type { Cidr } from "../lib/ip.ts";
import type { Log } from "../lib/log.ts";
import { Turns } from "../lib/turns.ts";
import type { Watch } from "../lib/watch-output.ts";
import { type DesiredEndpoint, type DesiredLinks, noLinks, vethName } from "./desired.ts";
import { diff, diffDevice, firstStepOf, type Plan, type Step } from "./diff.ts";
import { ipBatch, ipBatchApart, platformError, type RefusedLine, tcBatch } from "./iproute.ts";
import { Joining } from "./joining.ts";
import { LastLook } from "./last-look.ts";
import { checkPlatform, checkPool, checkTrafficControl } from "./platform.ts";
import { type ActualLinks, type Link, readDevice, readLinks } from "./read.ts";
import { removeLinks } from "./remove.ts";
import { moveReversePathFilter, writeSysctl } from "./sysctl.ts";
import { watchLinks } from "./watch.ts";

/** Another process may undo a change between two looks; what does not last so many rounds is given up. */
const ROUNDS = 3;

interface LinksOptions {
  log: Log;
  clock: Clock;
  /** The TUN's name. */
  device: string;
  /** Called with the indices of all host ends, by name, whenever they were looked at and are as desired. */
  onHostEnds?: ((indices: ReadonlyMap<string, number>) => void) | undefined;
}

/** Endpoints that could not be linked: address to the reason. */
export type Problems = ReadonlyMap<string, string>;

export class Links {
  readonly #log: Log;
  readonly #clock: Clock;
  readonly #device: string;
  readonly #onHostEnds: NonNullable<LinksOptions["onHostEnds"]>;
  #desired: DesiredLinks | undefined;
  /** What was wanted when all of it was last seen to be there, or made. */
  #made: DesiredLinks | undefined;
  #watch: Watch | undefined;
  readonly #turns = new Turns();
  readonly #joining: Joining;
  readonly #lastLook = new LastLook();
  // BOUNDED: by the desired endpoints. Host end's name to the index under which its container was seen to be right.
  readonly #verified = new Map<string, number>();

  constructor({ log, clock, device, onHostEnds = () => {} }: LinksOptions) {
    this.#log = log;
    this.#clock = clock;
    this.#device = device;
    this.#onHostEnds = onHostEnds;
    this.#joining = new Joining(log);
  }

  /** Whether an earlier agent left a TUN that no user has been able to open. It starts one process, which saves later ones. */
  async isAdoptable(): Promise<boolean> {
    const device = await readDevice(this.#device);
    return device?.adoptable === true && device.isRoots;
  }

  /** Checks the machine, and makes or adopts the TUN. Throws PlatformError. */
  async prepare(pool: Cidr, mtu: number): Promise<void> {
    await checkPlatform();
    await checkPool(pool, this.#device);
    await this.#turns.run(async () => {
      const nothing = noLinks(this.#device, pool, mtu);
      const { remove, make, shape } = diffDevice(nothing, (await readLinks(nothing, () => false)).device);
      await this.#steps("ip", remove, (lines) => ipBatch(null, lines), new Map());
      await this.#steps("ip", make, ipBatchApart, new Map());
      await this.#steps("ip", shape, (lines) => ipBatch(null, lines), new Map());
    });
    await checkTrafficControl(this.#device);
  }

  /**
   * Makes it so. An endpoint that cannot be linked does not keep the others from it: it is in the answer, with the
   * reason. It starts no process where the same is wanted as before, unless it is to `look` at what is there.
   * Throws PlatformError for what concerns the node.
   */
  apply(desired: DesiredLinks, { look = false } = {}): Promise<Problems> {
    this.#desired = desired;
    return this.#turns.run(async () => {
      const isWanted = isDeepStrictEqual(desired, this.#made);
      if (isWanted && !look) return new Map();
      this.#made = undefined;
      const problems = isWanted && (await this.#isUnchanged(desired)) ? new Map() : await this.#reconcile(desired);
      if (problems.size === 0) this.#made = desired;
      return problems;
    });
  }

  /**
   * Lets the links of containers, those that come later too, join TCP segments that come singly to them, or not, which is how they are
   * made. Resolves when the links that are there are so.
   */
  async join(isOn: boolean): Promise<void> {
    this.#joining.isOn = isOn;
    if (this.#desired !== undefined) await this.apply(this.#desired, { look: true });
  }

  /** From now on puts back at once what another process removes. */
  watch(): void {
    const onChange = () => {
      if (this.#desired === undefined) return;
      this.apply(this.#desired, { look: true }).catch((error: unknown) => {
        this.#log.error("links are not as they should be", { reason: messageOf(error) });
      });
    };
    this.#watch ??= watchLinks({ log: this.#log, clock: this.#clock, device: this.#device, onChange });
  }

  /** Stops watching. Everything stays as it is. */
  async close(): Promise<void> {
    this.#watch?.close();
    this.#watch = undefined;
    await this.#turns.settled();
  }

  /** Removes all of it. Settings under /proc/sys stay: others may have come to rely on them. */
  async removeAll(): Promise<void> {
    await this.close();
    this.#desired = undefined;
    this.#made = undefined;
    await this.#turns.run(() => removeLinks(this.#device));
  }

  async #reconcile(desired: DesiredLinks): Promise<Problems> {
    const problems = new Map<string, string>();
    for (let round = 1; ; round++) {
      await moveReversePathFilter(this.#log);
      const tried = { ...desired, endpoints: desired.endpoints.filter(({ address }) => !problems.has(address)) };
      const actual = await readLinks(desired, (endpoint, veth) => !this.#isVerified(endpoint, veth));
      const plan = diff(tried, actual);
      for (const [address, reason] of plan.problems) problems.set(address, reason);
      const first = firstStepOf(plan);
      if (first === undefined) {
        this.#remember(tried, actual);
        return problems;
      }
      if (round > ROUNDS)
        throw new PlatformError(`'${first}' does not last: another process undoes it`, "ip monitor all");
      for (const [address, reason] of await this.#carryOut(plan)) problems.set(address, reason);
    }
  }

  /** Whether a look finds everything as the last one did. */
  async #isUnchanged(desired: DesiredLinks): Promise<boolean> {
    await moveReversePathFilter(this.#log);
    const veths = await this.#lastLook.unchanged(desired);
    if (veths === undefined) return false;
    this.#tell(desired.endpoints, veths);
    return true;
  }

  #isVerified({ address }: DesiredEndpoint, veth: Link | undefined): boolean {
    return veth?.carrier === true && this.#verified.get(vethName(address)) === veth.ifindex;
  }

  #remember({ endpoints }: DesiredLinks, actual: ActualLinks): void {
    const { veths } = actual;
    this.#lastLook.remember(actual);
    this.#verified.clear();
    for (const { address } of endpoints) {
      const veth = veths.get(vethName(address));
      if (veth !== undefined) this.#verified.set(vethName(address), veth.ifindex);
    }
    this.#tell(endpoints, veths);
  }

  #tell(endpoints: readonly DesiredEndpoint[], veths: ReadonlyMap<string, Link>): void {
    this.#joining.apply(endpoints, veths);
    this.#onHostEnds(new Map([...veths].map(([name, { ifindex }]) => [name, ifindex])));
  }

  /** Returns the endpoints that failed. Throws PlatformError when it is the node's own part that failed. */
  async #carryOut(plan: Plan): Promise<Problems> {
    const problems = new Map<string, string>();
    await this.#steps("ip", plan.links, (lines) => ipBatch(null, lines), problems);
    await this.#steps("ip", plan.device, ipBatchApart, problems);
    for (const [path, value] of plan.sysctls) {
      if (![...problems.keys()].some((address) => path.includes(vethName(address)))) await writeSysctl(path, value);
    }
    await this.#steps("tc", plan.filters, tcBatch, problems);
    await this.#steps("ip", plan.facts, (lines) => ipBatch(null, lines), problems);
    for (const [netns, steps] of plan.containers) {
      await this.#steps(`ip -n ${netns}`, steps, (lines) => ipBatch(netns, lines), problems);
    }
    return problems;
  }

  /** A step of an endpoint that failed before is left out: the first reason is the one that tells. */
  async #steps(
    program: string,
    all: readonly Step[],
    batch: (lines: string[]) => Promise<RefusedLine[]>,
    problems: Map<string, string>,
  ): Promise<void> {
    const steps = all.filter(({ endpoint }) => endpoint === undefined || !problems.has(endpoint));
    for (const { index, reason } of await batch(steps.map(({ line }) => line))) {
      const { line, endpoint } = steps[index]!;
      this.#log.debug("a command was refused", { reason: `${program} ${line}: ${reason}` });
      // What is to be removed and cannot be, is gone already, or the next look finds it still there.
      if (/^\w+ del /.test(line)) continue;
      if (endpoint === undefined) throw platformError(`${program} ${line}`, reason);
      problems.set(endpoint, `'${program} ${line}' said: ${reason}`);
    }
  }
}
