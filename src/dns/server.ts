// The DNS server of a node. It listens on the gateway address of every network; who asks, and where, decides what is seen.
import type { Clock, Timer } from "../lib/clock.ts";
import { messageOf } from "../lib/errors.ts";
import { type Ipv4, ipv4 } from "../lib/ip.ts";
import type { Log } from "../lib/log.ts";
import { type Random, secureRandom } from "../lib/random.ts";
import { type AnswerCache, AnswerCacheFeed } from "./answer-cache.ts";
import { createHandlers, type Handler } from "./handlers.ts";
import { Listener, type OpenUdp } from "./listener.ts";
import {
  type Answer,
  codeOnly,
  encodeResponse,
  parseQuery,
  type Query,
  Rcode,
  TCP_BYTES,
  udpLimit,
} from "./message.ts";
import type { Asker, Names } from "./names.ts";
import { RateLimit } from "./rate-limit.ts";
import { Forwarder, type ForwardStats } from "./resolver.ts";

const FIRST_RETRY_MS = 100;
const LONGEST_RETRY_MS = 5_000;
/** All strangers together: their addresses may be forged, and a refusal a blow at whose they are. */
const REFUSALS_PER_SECOND = 100;
const ANY_STRANGER = 0;
/** How many UDP datagrams of one client are handled. The rest are only read, because all clients of a gateway share its socket. */
const DATAGRAMS_PER_SECOND = 10_000;
/** Of a client over TCP, in long answers: a short question has thousands of records written. */
const RECORDS_PER_SECOND = 100_000;
const SHORT_RECORDS = 100;

export interface DnsServerOptions {
  /** 0: any that is free, for tests. Default 53. */
  readonly port?: number;
  readonly clock: Clock;
  readonly random?: Random;
  readonly log: Log;
  readonly names: Names;
  /** For names that are not the overlay's: `ADDRESS`, `IPV4:PORT` or `[IPV6]:PORT`. */
  readonly resolvers?: readonly string[];
  /** Domain to the resolvers that know it. */
  readonly forward?: Readonly<Record<string, readonly string[]>>;
  /** See ListenerOptions. */
  readonly openUdp?: OpenUdp;
  /** How many forwarded questions may be under way. */
  readonly mostUnderWay?: number;
  /** Gives answers again over UDP; left out: there is none. */
  readonly answerCache?: AnswerCache;
}

export interface DnsStats extends ForwardStats {
  readonly queries: number;
  /** By response code: `NOERROR`, `NXDOMAIN` and so on. */
  readonly answersByRcode: Readonly<Record<string, number>>;
  /** Of the queries, those that could not be read, answered or not. */
  readonly malformed: number;
  readonly connectionsLimited: number;
  /** Queries that got no answer: those of strangers beyond the refusals a second, and those of clients beyond 10,000 a second. */
  readonly ignored: number;
}

const RCODE_NAMES: Readonly<Record<Rcode, string>> = {
  [Rcode.NoError]: "NOERROR",
  [Rcode.FormErr]: "FORMERR",
  [Rcode.ServFail]: "SERVFAIL",
  [Rcode.NXDomain]: "NXDOMAIN",
  [Rcode.NotImp]: "NOTIMP",
  [Rcode.Refused]: "REFUSED",
  [Rcode.BadVers]: "BADVERS",
};

/** An address that should be listened on: open, or to be tried again. */
interface Place {
  listener: Listener | undefined;
  retry: Timer | undefined;
  failures: number;
}

export class DnsServer {
  readonly #options: DnsServerOptions;
  readonly #forwarder: Forwarder;
  readonly #handlers: readonly Handler[];
  // BOUNDED: by the addresses last asked for; keyed by address.
  readonly #places = new Map<string, Place>();
  #queries = 0;
  #malformed = 0;
  #connectionsLimited = 0;
  #ignored = 0;
  readonly #datagrams = new RateLimit(DATAGRAMS_PER_SECOND);
  readonly #refusals = new RateLimit(REFUSALS_PER_SECOND);
  readonly #records = new RateLimit(RECORDS_PER_SECOND);
  readonly #answerCache: AnswerCacheFeed | undefined;
  // BOUNDED: by the response codes there are; keyed by name.
  readonly #answersByRcode = new Map<string, number>();

  /** Throws ConfigError when a resolver is not an address. */
  constructor(options: DnsServerOptions) {
    this.#options = options;
    const random = options.random ?? secureRandom;
    const { clock, log, names, resolvers = [], forward = {}, answerCache } = options;
    this.#answerCache = answerCache && new AnswerCacheFeed(clock, answerCache);
    names.onTouched = (touched) => this.#answerCache?.touched(touched);
    this.#forwarder = new Forwarder({
      clock,
      random,
      log,
      resolvers,
      forward,
      ...(options.mostUnderWay !== undefined && { mostUnderWay: options.mostUnderWay }),
    });
    this.#handlers = createHandlers(random, this.#forwarder);
  }

  setResolvers(resolvers: readonly string[]): void {
    this.#forwarder.setResolvers(resolvers);
  }

  stats(): DnsStats {
    return {
      ...this.#forwarder.stats(),
      queries: this.#queries,
      answersByRcode: Object.fromEntries(this.#answersByRcode),
      malformed: this.#malformed,
      connectionsLimited: this.#connectionsLimited,
      ignored: this.#ignored,
    };
  }

  /** Where it answers now. */
  endpoints(): { address: string; port: number }[] {
    const open = [...this.#places.values()].flatMap(({ listener }) => listener ?? []);
    return open.map(({ address, port }) => ({ address, port }));
  }

  /**
   * Listens on these addresses and no others. Resolves when each was tried once; one that could not be had is tried
   * again until it can or is not asked for any more.
   */
  async listen(addresses: readonly string[]): Promise<void> {
    for (const [address, place] of this.#places) {
      if (addresses.includes(address)) continue;
      this.#places.delete(address);
      place.retry?.cancel();
      place.listener?.close();
    }
    const added = addresses.filter((address) => !this.#places.has(address));
    for (const address of added) this.#places.set(address, { listener: undefined, retry: undefined, failures: 0 });
    await Promise.all(added.map((address) => this.#open(address, this.#places.get(address)!)));
  }

  stop(): Promise<void> {
    return this.listen([]);
  }

  async #open(address: string, place: Place): Promise<void> {
    const { port = 53, clock, log } = this.#options;
    const via = ipv4(address);
    try {
      const listener = await Listener.open({
        address,
        port,
        clock,
        openUdp: this.#options.openUdp,
        receiveUdp: (message, source, reply) => {
          if (this.#datagrams.allows(source, clock.monotonic())) this.#receive(message, source, via, udpLimit, reply);
          else this.#ignored++;
        },
        receiveTcp: (source, message, reply) => this.#receive(message, source, via, () => TCP_BYTES, reply),
        onLimited: () => this.#connectionsLimited++,
        onError: (error) => {
          place.listener = undefined;
          this.#retry(address, place, error);
        },
      });
      if (this.#places.get(address) !== place) {
        listener.close(); // not asked for any more
        return;
      }
      place.listener = listener;
      if (place.failures > 0) log.info("DNS answers again", { address });
      place.failures = 0;
    } catch (error) {
      this.#retry(address, place, error);
    }
  }

  #retry(address: string, place: Place, error: unknown): void {
    if (this.#places.get(address) !== place) return;
    const { port = 53, clock, log } = this.#options;
    if (place.failures === 0) {
      log.error(`DNS cannot answer on ${address}: ${messageOf(error)}; ${remedy(error, port)}; it is tried again`, {
        address,
        port: String(port),
        err: error,
      });
    }
    const pauseMs = Math.min(LONGEST_RETRY_MS, FIRST_RETRY_MS * 2 ** Math.min(place.failures, 10));
    place.failures++;
    place.retry = clock.after(pauseMs, () => void this.#open(address, place));
  }

  /** false: nothing that could be answered. */
  #receive(
    message: Buffer,
    source: Ipv4,
    via: Ipv4,
    limitOf: (query: Query) => number,
    reply: (response: Buffer) => void,
  ): boolean {
    this.#queries++;
    const query = parseQuery(message);
    if (query === undefined || query.fault === Rcode.FormErr) this.#malformed++;
    if (query === undefined) return false;
    const { names } = this.#options;
    const networks = names.networksOf(source, via);
    if (networks === undefined && !this.#refusals.allows(ANY_STRANGER, this.#options.clock.monotonic())) {
      this.#ignored++;
      return false;
    }
    const limit = limitOf(query);
    const respond = (wanted: Answer) => {
      const answer = limit < TCP_BYTES || this.#mayHave(wanted, source) ? wanted : codeOnly(Rcode.Refused);
      this.#count(answer);
      const response = encodeResponse(query, answer, limit);
      reply(response);
      if (limit < TCP_BYTES && asker !== undefined)
        this.#answerCache?.answered(message, query, asker, answer, response);
    };
    const asker = networks && { address: source, via, names, networks, servers: names.serversOf(source) };
    // A stranger gets nothing, so that it cannot reach others through this server.
    const answer = asker === undefined ? codeOnly(Rcode.Refused) : this.#answer(query, asker);
    if (answer instanceof Promise) void answer.then(respond);
    else respond(answer);
    return true;
  }

  #answer(query: Query, asker: Asker): Answer | Promise<Answer> {
    if (query.fault !== Rcode.NoError) return codeOnly(query.fault);
    for (const handler of this.#handlers) {
      const answer = handler(query, asker);
      if (answer !== undefined) return answer;
    }
    return codeOnly(Rcode.Refused);
  }

  #mayHave(answer: Answer, client: Ipv4): boolean {
    const records = lengthOf(answer);
    return records <= SHORT_RECORDS || this.#records.allows(client, this.#options.clock.monotonic(), records);
  }

  #count(answer: Answer): void {
    const name = RCODE_NAMES[rcodeOf(answer)];
    this.#answersByRcode.set(name, (this.#answersByRcode.get(name) ?? 0) + 1);
  }
}

function rcodeOf(answer: Answer): Rcode {
  if (answer.kind === "negative" || answer.kind === "code") return answer.rcode;
  return answer.kind === "message" ? ((answer.message[3]! & 15) as Rcode) : Rcode.NoError;
}

/** Records of the cluster's own names, of which there may be many. */
function lengthOf(answer: Answer): number {
  if (answer.kind === "addresses") return answer.addresses.length;
  return answer.kind === "services" ? answer.targets.length : 0;
}

function remedy(error: unknown, port: number): string {
  const code = error instanceof Error && "code" in error ? error.code : undefined;
  if (code === "EADDRINUSE") return `another server holds port ${port}, see \`ss -lntup 'sport = :${port}'\``;
  if (code === "EADDRNOTAVAIL") return "the address is not on a link yet, see `ip address`";
  if (code === "EACCES") return "ports below 1024 need root or CAP_NET_BIND_SERVICE";
  return "see `ip address` and `ss -lntup`";
}
