// Resolves names that are not the overlay's: asks the node's resolvers, or those that a domain is routed to, and keeps the answers.
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
import { type QueryOptions, queryUpstreams } from "./query-upstreams.ts";
import type { Response } from "./response.ts";
import { parseUpstream, type Upstream } from "./upstream.ts";

/** The time that a client waits for a fresh answer when there is a stale one, RFC 8767 section 5; it does not wait when all resolvers are down. */
const STALE_WAIT_MS = 1_800;
/** The time that a question waits for its turn: below the 5 s that clients wait for its answer. */
const PATIENCE_MS = 4_000;
/** Sets of resolvers that services or containers have of their own, and the limits of what is kept of the answers of each. */
const MOST_OWN_SETS = 64;
const OWN_SET_LIMITS = { entries: 1_000, bytes: 2 * 1024 * 1024 };
/** Forwarded questions that may be under way on a node. Each takes a descriptor; answers of the cache take none. */
export const MOST_UNDER_WAY = 8_192;
const LIMITS = {
  underWayPerClient: 1_024,
  waiting: 16_384,
  waitingPerClient: 4_096,
  startedPerSecondAndClient: 1_024,
};

/** With the dot behind it; one inside it is escaped. */
const FIRST_LABEL = /^(?:\\.|[^.\\])*\.?/s;

interface ResolverOptions {
  readonly clock: Clock;
  /** For ids: nothing outside may guess them. */
  readonly random: Random;
  readonly log: Log;
  /** `ADDRESS`, `IPV4:PORT` or `[IPV6]:PORT`. */
  readonly resolvers: readonly string[];
  /** Domain, in lower case and without a dot at its end, to resolvers; the longest domain that fits is taken. */
  readonly forward: Readonly<Record<string, readonly string[]>>;
  /** Questions that may be under way at most, where descriptors are few. */
  readonly mostUnderWay?: number;
}

export interface ResolverStats {
  readonly cacheHits: number;
  readonly staleAnswers: number;
  readonly sentUpstream: number;
  /** Questions of one resolver that brought an answer of no use, silence, or that it is unreachable. */
  readonly upstreamFailures: number;
  /** Queries that had to wait for their turn, because the client or the node had too many under way. */
  readonly waited: number;
  /** Queries that got no turn in time, or found no place to wait. */
  readonly limited: number;
}

/** One set of resolvers, with what is kept of its answers and what it is asked now. Another set may answer otherwise. */
class ResolverSet {
  upstreams: readonly Upstream[];
  readonly cache: ResponseCache;
  // BOUNDED: by MOST_UNDER_WAY; keyed by question. Clients that ask the same meanwhile wait for the same answer, so a loop
  // through a resolver that asks this server again ends here.
  readonly pending = new Map<string, Promise<Response | undefined>>();

  constructor(upstreams: readonly Upstream[], limits?: CacheLimits) {
    this.upstreams = upstreams;
    this.cache = new ResponseCache(limits);
  }
}

export class OutsideResolver {
  readonly #options: ResolverOptions;
  // BOUNDED: by the configuration; keyed by domain.
  readonly #routes = new Map<string, readonly Upstream[]>();
  /** The node's own resolvers. */
  #ofNode: ResolverSet;
  /** The resolvers whose answers are in `#ofNode`, as text. */
  #keyOfNode: string;
  // BOUNDED: by MOST_OWN_SETS, least recently used out first; keyed by the resolvers that containers have of their own.
  readonly #ownSets = new Map<string, ResolverSet>();
  readonly #queue: FairQueue;
  readonly #queryOptions: QueryOptions;
  readonly #counters = { cacheHits: 0, staleAnswers: 0, sentUpstream: 0, upstreamFailures: 0 };

  /** Throws ConfigError when a resolver is not an address. */
  constructor(options: ResolverOptions) {
    this.#options = options;
    this.#queryOptions = { ...options, counters: this.#counters };
    const limits = { underWay: options.mostUnderWay ?? MOST_UNDER_WAY, ...LIMITS };
    this.#queue = new FairQueue(options.clock, limits, Math.floor(options.random() * 2 ** 32));
    this.#ofNode = new ResolverSet(upstreams("dns.resolvers", options.resolvers));
    this.#keyOfNode = keyOf(this.#ofNode.upstreams);
    for (const [domain, servers] of Object.entries(options.forward)) {
      this.#routes.set(domain, upstreams(`dns.forward.${domain}`, servers));
    }
  }

  stats(): ResolverStats {
    return { ...this.#counters, ...this.#queue.stats() };
  }

  /** Takes the node's resolvers, and forgets the answers of others. Answers stay when there are none: the node may have lost its network. */
  setResolvers(resolvers: readonly string[]): void {
    const found = upstreams("dns.resolvers", resolvers);
    const key = keyOf(found);
    if (key !== "" && key !== this.#keyOfNode) {
      this.#keyOfNode = key;
      this.#ofNode = new ResolverSet(found);
    } else this.#ofNode.upstreams = found;
  }

  /** Whether `name` is under a domain that the configuration forwards. A container with its own resolvers uses no others. */
  hasRoute(name: string, { servers = [] }: Pick<Asker, "servers">): boolean {
    return servers.length === 0 && this.#routeOf(name) !== undefined;
  }

  resolve(query: Query, asker: Asker): Answer | Promise<Answer> {
    // A client that does not ask for recursion is not to learn what other clients have asked.
    if ((query.flags & Flag.RD) === 0) return codeOnly(Rcode.Refused);
    const key = `${query.name} ${query.type} ${query.flags & (Flag.AD | Flag.CD)} ${query.edns?.dnssecOk ?? false}`;
    const nowMs = this.#options.clock.monotonic();
    const set = this.#setFor(asker);
    const cached = set.cache.fresh(key, nowMs);
    if (cached !== undefined) {
      this.#counters.cacheHits++;
      return { kind: "message", message: cached };
    }
    if (set.cache.hasFailed(key, nowMs)) return this.#staleOrFailure(set, key);
    return this.#ask(set, key, query, asker);
  }

  /** The resolvers that this client uses: its own are kept apart from the node's, and so are their answers. */
  #setFor({ servers = [] }: Asker): ResolverSet {
    if (servers.length === 0) return this.#ofNode;
    const key = servers.join(" ");
    const set = this.#ownSets.get(key) ?? new ResolverSet(upstreams("dns", servers), OWN_SET_LIMITS);
    this.#ownSets.delete(key);
    this.#ownSets.set(key, set);
    if (this.#ownSets.size > MOST_OWN_SETS) this.#ownSets.delete(this.#ownSets.keys().next().value!);
    return set;
  }

  async #ask(set: ResolverSet, key: string, query: Query, asker: Asker): Promise<Answer> {
    const { clock } = this.#options;
    const startMs = clock.monotonic();
    const candidates = this.#candidates(set, query, asker);
    const isHopeful = candidates.some((upstream) => upstream.isHeard(startMs)); // looked at before one of them is asked
    const asking = this.#queue.run(asker.address, PATIENCE_MS, () => this.#fetch(set, key, query, candidates));
    const hasStale = set.cache.stale(key, startMs) !== undefined;
    const message = await (hasStale ? within(clock, isHopeful ? STALE_WAIT_MS : 0, asking) : asking);
    return message === undefined ? this.#staleOrFailure(set, key) : { kind: "message", message };
  }

  /** The answer. It comes from the cache if it got there while the question waited for its turn. */
  async #fetch(
    { cache, pending: allPending }: ResolverSet,
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
      pending = queryUpstreams(query, candidates, this.#queryOptions).then((response) => {
        if (response === undefined) cache.putFailure(key, clock.monotonic());
        else cache.put(key, response, clock.monotonic());
        return response;
      });
      allPending.set(key, pending);
      void pending.finally(() => allPending.delete(key));
    }
    return (await pending)?.message;
  }

  #staleOrFailure(set: ResolverSet, key: string): Answer {
    const stale = set.cache.stale(key, this.#options.clock.monotonic());
    if (stale === undefined) return codeOnly(Rcode.ServFail);
    this.#counters.staleAnswers++;
    return { kind: "message", message: stale };
  }

  #candidates(set: ResolverSet, query: Query, asker: Asker): Upstream[] {
    const route = this.hasRoute(query.name, asker) ? this.#routeOf(query.name) : undefined;
    return (route ?? set.upstreams).filter(
      // A resolv.conf that names this server would send every query round in a circle.
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

function keyOf(upstreams: readonly Upstream[]): string {
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
