// Names that are not the overlay's: asked of the node's resolvers, or of those that a domain is routed to, and cached.
import { isIPv4 } from "node:net";
import type { Clock, Timer } from "../lib/clock.ts";
import { ConfigError } from "../lib/errors.ts";
import { ipv4 } from "../lib/ip.ts";
import type { Log } from "../lib/log.ts";
import type { Random } from "../lib/random.ts";
import { type AskTools, askUpstreams } from "./ask.ts";
import { ResponseCache } from "./cache.ts";
import { type Answer, codeOnly, Flag, type Query, Rcode } from "./codec.ts";
import type { Asker } from "./names.ts";
import { RateLimit } from "./rate-limit.ts";
import type { Response } from "./response.ts";
import { parseUpstream, type Upstream } from "./upstream.ts";

/** How long a client waits for a fresh answer when there is a stale one, RFC 8767 section 5; not at all when all are down. */
const STALE_WAIT_MS = 1_800;
const MAX_WAITING = 1_000;
const MAX_WAITING_PER_CLIENT = 100;
/** Of one client, what is not in the cache. */
const MAX_ASKED_PER_SECOND = 500;

/** With the dot behind it; one inside it is escaped. */
const FIRST_LABEL = /^(?:\\.|[^.\\])*\.?/s;

export interface ForwardOptions {
  readonly clock: Clock;
  /** For ids: nobody may guess them. */
  readonly random: Random;
  readonly log: Log;
  /** `ADDRESS`, `IPV4:PORT` or `[IPV6]:PORT`. */
  readonly resolvers: readonly string[];
  /** Domain, in lower case and without a dot at its end, to resolvers; the longest domain that fits is taken. */
  readonly forward: Readonly<Record<string, readonly string[]>>;
}

export interface ForwardStats {
  readonly cacheHits: number;
  readonly staleAnswers: number;
  readonly sentUpstream: number;
  /** Answers of no use, silence and unreachable resolvers. */
  readonly upstreamFailures: number;
  /** Queries turned away because too many were waiting, or one client asked for too much. */
  readonly limited: number;
}

/** What is kept and what is asked of one set of resolvers. Those of another network may answer otherwise. */
class Known {
  readonly cache = new ResponseCache();
  // BOUNDED: by MAX_WAITING; keyed by question. Who asks the same meanwhile waits for the same, so a loop through a
  // resolver that asks us again ends here.
  readonly pending = new Map<string, Promise<Response | undefined>>();
}

export class Forwarder {
  readonly #options: ForwardOptions;
  // BOUNDED: by the configuration; keyed by domain.
  readonly #routes = new Map<string, readonly Upstream[]>();
  #resolvers: readonly Upstream[];
  #known = new Known();
  /** Whose answers are in `#known`. */
  #knownOf: string;
  #waiting = 0;
  // BOUNDED: by MAX_WAITING; keyed by the client's address.
  readonly #waitingByClient = new Map<number, number>();
  readonly #rate = new RateLimit(MAX_ASKED_PER_SECOND);
  readonly #tools: AskTools;
  readonly #counters = { cacheHits: 0, staleAnswers: 0, sentUpstream: 0, upstreamFailures: 0, limited: 0 };

  /** Throws ConfigError when a resolver is not an address. */
  constructor(options: ForwardOptions) {
    this.#options = options;
    this.#tools = { ...options, counters: this.#counters };
    this.#resolvers = upstreams("dns.resolvers", options.resolvers);
    this.#knownOf = setOf(this.#resolvers);
    for (const [domain, servers] of Object.entries(options.forward)) {
      this.#routes.set(domain, upstreams(`dns.forward.${domain}`, servers));
    }
  }

  stats(): ForwardStats {
    return { ...this.#counters };
  }

  /** Forgets what others than these have answered. Without any, a node that lost its network has stale answers yet. */
  setResolvers(resolvers: readonly string[]): void {
    this.#resolvers = upstreams("dns.resolvers", resolvers);
    const set = setOf(this.#resolvers);
    if (set === "" || set === this.#knownOf) return;
    this.#knownOf = set;
    this.#known = new Known();
  }

  /** Whether a domain is configured that `name` is of. */
  hasRoute(name: string): boolean {
    return this.#routeOf(name) !== undefined;
  }

  resolve(query: Query, asker: Asker): Answer | Promise<Answer> {
    // Nobody who does not ask for recursion learns what others have asked.
    if ((query.flags & Flag.RD) === 0) return codeOnly(Rcode.Refused);
    const key = `${query.name} ${query.type} ${query.flags & (Flag.AD | Flag.CD)} ${query.edns?.dnssecOk ?? false}`;
    const nowMs = this.#options.clock.monotonic();
    const cached = this.#known.cache.fresh(key, nowMs);
    if (cached !== undefined) {
      this.#counters.cacheHits++;
      return { kind: "message", message: cached };
    }
    if (this.#known.cache.hasFailed(key, nowMs)) return this.#staleOrFailure(key);
    const waitingOfClient = this.#waitingByClient.get(asker.address) ?? 0;
    const isFull = this.#waiting >= MAX_WAITING || waitingOfClient >= MAX_WAITING_PER_CLIENT;
    if (isFull || !this.#rate.allows(asker.address, nowMs)) {
      this.#counters.limited++;
      return this.#staleOrFailure(key);
    }
    this.#waiting++;
    this.#waitingByClient.set(asker.address, waitingOfClient + 1);
    return this.#wait(key, query, asker).finally(() => {
      this.#waiting--;
      const left = this.#waitingByClient.get(asker.address)! - 1;
      if (left === 0) this.#waitingByClient.delete(asker.address);
      else this.#waitingByClient.set(asker.address, left);
    });
  }

  async #wait(key: string, query: Query, asker: Asker): Promise<Answer> {
    const { clock } = this.#options;
    const { cache, pending: allPending } = this.#known;
    const startMs = clock.monotonic();
    const candidates = this.#candidates(query, asker);
    const isHopeful = candidates.some((upstream) => upstream.isHeard(startMs)); // before one of them is tried
    let pending = allPending.get(key);
    if (pending === undefined) {
      pending = askUpstreams(query, candidates, this.#tools).then((response) => {
        if (response === undefined) cache.putFailure(key, clock.monotonic());
        else cache.put(key, response, clock.monotonic());
        return response;
      });
      allPending.set(key, pending);
      void pending.finally(() => allPending.delete(key));
    }
    const hasStale = cache.stale(key, startMs) !== undefined;
    const response = await (hasStale ? within(clock, isHopeful ? STALE_WAIT_MS : 0, pending) : pending);
    if (response === undefined) return this.#staleOrFailure(key);
    return { kind: "message", message: response.message };
  }

  #staleOrFailure(key: string): Answer {
    const stale = this.#known.cache.stale(key, this.#options.clock.monotonic());
    if (stale === undefined) return codeOnly(Rcode.ServFail);
    this.#counters.staleAnswers++;
    return { kind: "message", message: stale };
  }

  #candidates(query: Query, asker: Asker): Upstream[] {
    return (this.#routeOf(query.name) ?? this.#resolvers).filter(
      // A resolv.conf that names us would send every query round in a circle.
      ({ address }) => !isIPv4(address) || !asker.names.isGateway(ipv4(address)),
    );
  }

  #routeOf(name: string): readonly Upstream[] | undefined {
    if (this.#routes.size === 0) return undefined;
    for (let rest = name; rest !== ""; rest = rest.replace(FIRST_LABEL, "")) {
      const route = this.#routes.get(rest);
      if (route !== undefined) return route;
    }
    return undefined;
  }
}

/** What `promise` resolves to, or undefined when that takes longer. */
function within<T>(clock: Clock, ms: number, promise: Promise<T>): Promise<T | undefined> {
  let timer: Timer | undefined;
  const late = new Promise<undefined>((resolve) => {
    timer = clock.after(ms, () => resolve(undefined));
  });
  return Promise.race([promise, late]).finally(() => timer?.cancel());
}

function setOf(upstreams: readonly Upstream[]): string {
  return [...new Set(upstreams.map(({ name }) => name))].sort().join(" ");
}

function upstreams(field: string, servers: readonly string[]): Upstream[] {
  return servers.map((text) => {
    const upstream = parseUpstream(text);
    if (upstream === undefined) {
      throw new ConfigError(field, `'${text}' is not a resolver: write ADDRESS, IPV4:PORT or [IPV6]:PORT`);
    }
    return upstream;
  });
}
