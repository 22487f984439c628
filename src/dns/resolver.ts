// Names that are not the overlay's: asked of the node's resolvers, or of those that a domain is routed to, and cached.
import { isIPv4 } from "node:net";
import type { Clock, Timer } from "../lib/clock.ts";
import { ConfigError } from "../lib/errors.ts";
import { ipv4 } from "../lib/ip.ts";
import type { Log } from "../lib/log.ts";
import type { Random } from "../lib/random.ts";
import { type CacheLimits, ResponseCache } from "./cache.ts";
import { FairQueue } from "./fair-queue.ts";
import { type Answer, codeOnly, Flag, type Query, Rcode } from "./message.ts";
import type { Asker } from "./names.ts";
import { type AskTools, askUpstreams } from "./query-upstreams.ts";
import type { Response } from "./response.ts";
import { parseUpstream, type Upstream } from "./upstream.ts";

/** How long a client waits for a fresh answer when there is a stale one, RFC 8767 section 5; not at all when all are down. */
const STALE_WAIT_MS = 1_800;
/** How long a question waits for its turn: below the 5 s that clients wait for its answer. */
const PATIENCE_MS = 4_000;
/** Sets of resolvers that services or containers have of their own, and what is kept of each one's answers. */
const MOST_OWN_SETS = 64;
const OWN_SET_LIMITS = { entries: 1_000, bytes: 2 * 1024 * 1024 };
/** How many forwarded questions may be under way on a node. Each takes a descriptor; answers of the cache take none. */
export const MOST_UNDER_WAY = 8_192;
const LIMITS = {
  underWayPerClient: 1_024,
  waiting: 16_384,
  waitingPerClient: 4_096,
  startedPerSecondAndClient: 1_024,
};

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
  /** How many questions may be under way at most, where descriptors are few. */
  readonly mostUnderWay?: number;
}

export interface ForwardStats {
  readonly cacheHits: number;
  readonly staleAnswers: number;
  readonly sentUpstream: number;
  /** Answers of no use, silence and unreachable resolvers. */
  readonly upstreamFailures: number;
  /** Queries that had to wait for their turn, because the client or the node had too many under way. */
  readonly waited: number;
  /** Queries that got no turn in time, or found no place to wait. */
  readonly limited: number;
}

/** What is kept and what is asked of one set of resolvers. Those of another network may answer otherwise. */
class Known {
  resolvers: readonly Upstream[];
  readonly cache: ResponseCache;
  // BOUNDED: by MOST_UNDER_WAY; keyed by question. Clients that ask the same meanwhile wait for the same, so a loop
  // through a resolver that asks us again ends here.
  readonly pending = new Map<string, Promise<Response | undefined>>();

  constructor(resolvers: readonly Upstream[], limits?: CacheLimits) {
    this.resolvers = resolvers;
    this.cache = new ResponseCache(limits);
  }
}

export class Forwarder {
  readonly #options: ForwardOptions;
  // BOUNDED: by the configuration; keyed by domain.
  readonly #routes = new Map<string, readonly Upstream[]>();
  #known: Known;
  /** Whose answers are in `#known`. */
  #knownOf: string;
  // BOUNDED: by MOST_OWN_SETS, least recently used out first; keyed by the resolvers that containers have of their own.
  readonly #ownSets = new Map<string, Known>();
  readonly #queue: FairQueue;
  readonly #tools: AskTools;
  readonly #counters = { cacheHits: 0, staleAnswers: 0, sentUpstream: 0, upstreamFailures: 0 };

  /** Throws ConfigError when a resolver is not an address. */
  constructor(options: ForwardOptions) {
    this.#options = options;
    this.#tools = { ...options, counters: this.#counters };
    this.#queue = new FairQueue(options.clock, { underWay: options.mostUnderWay ?? MOST_UNDER_WAY, ...LIMITS });
    this.#known = new Known(upstreams("dns.resolvers", options.resolvers));
    this.#knownOf = setOf(this.#known.resolvers);
    for (const [domain, servers] of Object.entries(options.forward)) {
      this.#routes.set(domain, upstreams(`dns.forward.${domain}`, servers));
    }
  }

  stats(): ForwardStats {
    return { ...this.#counters, ...this.#queue.stats() };
  }

  /** Forgets what others than these have answered. Without any, a node that lost its network has stale answers yet. */
  setResolvers(resolvers: readonly string[]): void {
    const found = upstreams("dns.resolvers", resolvers);
    const set = setOf(found);
    if (set !== "" && set !== this.#knownOf) {
      this.#knownOf = set;
      this.#known = new Known(found);
    } else this.#known.resolvers = found;
  }

  /** Whether `name` is under a domain that the configuration forwards. A container with its own resolvers uses no others. */
  hasRoute(name: string, { servers = [] }: Pick<Asker, "servers">): boolean {
    return servers.length === 0 && this.#routeOf(name) !== undefined;
  }

  resolve(query: Query, asker: Asker): Answer | Promise<Answer> {
    // Nobody who does not ask for recursion learns what others have asked.
    if ((query.flags & Flag.RD) === 0) return codeOnly(Rcode.Refused);
    const key = `${query.name} ${query.type} ${query.flags & (Flag.AD | Flag.CD)} ${query.edns?.dnssecOk ?? false}`;
    const nowMs = this.#options.clock.monotonic();
    const known = this.#knownTo(asker);
    const cached = known.cache.fresh(key, nowMs);
    if (cached !== undefined) {
      this.#counters.cacheHits++;
      return { kind: "message", message: cached };
    }
    if (known.cache.hasFailed(key, nowMs)) return this.#staleOrFailure(known, key);
    return this.#ask(known, key, query, asker);
  }

  /** What is known of the resolvers that this client uses: its own are kept apart from the node's, and so are their answers. */
  #knownTo({ servers = [] }: Asker): Known {
    if (servers.length === 0) return this.#known;
    const key = servers.join(" ");
    const known = this.#ownSets.get(key) ?? new Known(upstreams("dns", servers), OWN_SET_LIMITS);
    this.#ownSets.delete(key);
    this.#ownSets.set(key, known);
    if (this.#ownSets.size > MOST_OWN_SETS) this.#ownSets.delete(this.#ownSets.keys().next().value!);
    return known;
  }

  async #ask(known: Known, key: string, query: Query, asker: Asker): Promise<Answer> {
    const { clock } = this.#options;
    const startMs = clock.monotonic();
    const candidates = this.#candidates(known, query, asker);
    const isHopeful = candidates.some((upstream) => upstream.isHeard(startMs)); // before one of them is tried
    const asking = this.#queue.run(asker.address, PATIENCE_MS, () => this.#fetch(known, key, query, candidates));
    const hasStale = known.cache.stale(key, startMs) !== undefined;
    const message = await (hasStale ? within(clock, isHopeful ? STALE_WAIT_MS : 0, asking) : asking);
    return message === undefined ? this.#staleOrFailure(known, key) : { kind: "message", message };
  }

  /** The answer. It comes from the cache if it got there while the question waited for its turn. */
  async #fetch(
    { cache, pending: allPending }: Known,
    key: string,
    query: Query,
    candidates: readonly Upstream[],
  ): Promise<Buffer | undefined> {
    const { clock } = this.#options;
    const nowMs = clock.monotonic();
    const cached = cache.fresh(key, nowMs);
    if (cached !== undefined || cache.hasFailed(key, nowMs)) return cached;
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
    return (await pending)?.message;
  }

  #staleOrFailure(known: Known, key: string): Answer {
    const stale = known.cache.stale(key, this.#options.clock.monotonic());
    if (stale === undefined) return codeOnly(Rcode.ServFail);
    this.#counters.staleAnswers++;
    return { kind: "message", message: stale };
  }

  #candidates(known: Known, query: Query, asker: Asker): Upstream[] {
    const route = this.hasRoute(query.name, asker) ? this.#routeOf(query.name) : undefined;
    return (route ?? known.resolvers).filter(
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
