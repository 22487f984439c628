// Docker has the node drop what it forwards, unless Docker itself wants it: `iptables -P FORWARD DROP`. An accept in a
// table of one's own does not help against that, so the TUN's traffic is let through where Docker leaves room for it. Answers to clients that
// the express lane has led here are untracked: no rule about the state of connections lets them pass.
import { CommandError, run } from "../lib/command.ts";
import { messageOf, PlatformError } from "../lib/errors.ts";
import type { Log } from "../lib/log.ts";

/** Docker's chain for rules of others. It calls it before its own, and leaves it alone. */
const DOCKER_CHAIN = "DOCKER-USER";
/** What becomes of packets that no other rule wants, where they do not pass. */
const ENDS = [
  "-P FORWARD DROP",
  "-A FORWARD -j DROP",
  "-A FORWARD -j REJECT --reject-with icmp-host-prohibited",
  "-A FORWARD -j REJECT --reject-with icmp-port-unreachable",
];
const CHAINS = [DOCKER_CHAIN, "FORWARD"] as const;

export class ForwardPolicy {
  readonly #log: Log;
  readonly #device: string;
  /** The reason of the last warning: a reason that stays is logged once. */
  #warnedOf: string | undefined;
  readonly #iptables: (argv: readonly string[]) => Promise<string>;

  /** `device` is the TUN. `iptables` stands in for the program in tests. */
  constructor({ log, device, iptables = callIptables }: ForwardPolicyOptions) {
    this.#log = log;
    this.#device = device;
    this.#iptables = iptables;
  }

  /**
   * Lets the TUN's traffic through, if anything would drop it. `hasDocker`: Docker uses iptables, so iptables must be
   * there. What fails is logged: the rest of the node goes on.
   */
  async open({ hasDocker }: { hasDocker: boolean }): Promise<void> {
    try {
      const rules = await this.#rules(hasDocker);
      const chain = rules === undefined ? undefined : chainToOpen(rules);
      if (chain === undefined) return;
      const missing = this.#accepts(chain).filter((rule) => !rules!.has(`-A ${rule}`));
      for (const rule of missing) await this.#iptables(["-I", ...rule.split(" ")]);
      if (missing.length > 0) this.#log.info("iptables lets the overlay through", { reason: `the rules of ${chain}` });
    } catch (error) {
      const mend = this.#accepts(DOCKER_CHAIN).map((rule) => `iptables -I ${rule}`);
      const reason = messageOf(error);
      if (reason === this.#warnedOf) return;
      this.#warnedOf = reason;
      this.#log.warn(`Docker may drop what this node forwards (${mend.join("; ")})`, { reason });
    }
  }

  /** Takes back what open() ever did. Throws CommandError. */
  async close(): Promise<void> {
    const rules = (await this.#rules(false)) ?? new Set();
    for (const rule of CHAINS.flatMap((chain) => this.#accepts(chain))) {
      if (rules.has(`-A ${rule}`)) await this.#iptables(["-D", ...rule.split(" ")]);
    }
  }

  /** The rules as `iptables -S` prints them; undefined where there is no iptables, and so no program that used it. */
  async #rules(mustBe: boolean): Promise<ReadonlySet<string> | undefined> {
    try {
      return new Set((await this.#iptables(["-S"])).split("\n"));
    } catch (error) {
      if (error instanceof PlatformError && !mustBe) return undefined;
      throw error;
    }
  }

  #accepts(chain: string): string[] {
    return ["-i", "-o"].map((direction) => `${chain} ${direction} ${this.#device} -j ACCEPT`);
  }
}

interface ForwardPolicyOptions {
  log: Log;
  device: string;
  iptables?: (argv: readonly string[]) => Promise<string>;
}

function chainToOpen(rules: ReadonlySet<string>): string | undefined {
  if (rules.has(`-N ${DOCKER_CHAIN}`)) return DOCKER_CHAIN;
  return ENDS.some((rule) => rules.has(rule)) ? "FORWARD" : undefined;
}

/** Waits for the lock that Docker may hold. A kernel without the tables has no policy either. */
async function callIptables(argv: readonly string[]): Promise<string> {
  try {
    return await run(["iptables", "-w", "5", ...argv]);
  } catch (error) {
    if (error instanceof CommandError && /Table does not exist|Could not fetch rule set/.test(error.stderr)) return "";
    throw error;
  }
}
