// The DNS server of a node. It listens on the gateway address of every network. A client's address, and the gateway that it
// asks, decide which names it sees.
import type { Clock } from "../lib/clock.ts";
import type { Ipv4 } from "../lib/ip.ts";
import type { Log } from "../lib/log.ts";
import { type Random, secureRandom } from "../lib/random.ts";
import { RateLimit, SourceRateLimit } from "../lib/rate-limit.ts";
import { type AnswerCache, AnswerCacheFeed } from "./answer-cache.ts";
import { createHandlers, type Handler } from "./handlers.ts";
import type { OpenUdp } from "./listener.ts";
import { Listeners } from "./listeners.ts";
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
import { OutsideResolver, type ResolverStats } from "./resolver.ts";

/** The limit of all strangers together. A stranger's address may be forged: then the refusals go to another host, which did not ask. */
const REFUSALS_PER_SECOND = 100;
/** UDP datagrams of one client that are handled. The rest are only read, because all clients of a gateway share its socket. */
const DATAGRAMS_PER_SECOND = 10_000;
/** The limit of one client's long answers over TCP: a short question has thousands of records written. */
const RECORDS_PER_SECOND = 100_000;
/** An answer of more records is long. */
const SHORT_RECORDS = 100;

export interface DnsServerOptions {
  /** 0: any that is free, for tests. Default DNS_PORT. */
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
  /** Forwarded questions that may be under way at most. */
  readonly mostUnderWay?: number;
  /** Gives answers again over UDP; left out: there is none. */
  readonly answerCache?: AnswerCache;
}

interface DnsStats extends ResolverStats {
  readonly queries: number;
  /** By response code: `NOERROR`, `NXDOMAIN` and so on. */
  readonly answersByRcode: Readonly<Record<string, number>>;
  /** Queries that could not be read, answered or not. */
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

export class DnsServer {
  readonly #options: DnsServerOptions;
  readonly #listeners: Listeners;
  readonly #resolver: OutsideResolver;
  readonly #handlers: readonly Handler[];
  readonly #counters = { queries: 0, malformed: 0, connectionsLimited: 0, ignored: 0 };
  // BOUNDED: by the response codes there are; keyed by name.
  readonly #answersByRcode = new Map<string, number>();
  readonly #datagrams: SourceRateLimit;
  readonly #records: SourceRateLimit;
  readonly #refusals = new RateLimit(REFUSALS_PER_SECOND);
  readonly #answerCache: AnswerCacheFeed | undefined;

  /** Throws ConfigError when a resolver is not an address. */
  constructor(options: DnsServerOptions) {
    this.#options = options;
    const { clock, log, port, names, random = secureRandom, resolvers = [], forward = {}, mostUnderWay } = options;
    const seed = Math.floor(random() * 2 ** 32);
    this.#datagrams = new SourceRateLimit(DATAGRAMS_PER_SECOND, seed);
    this.#records = new SourceRateLimit(RECORDS_PER_SECOND, seed);
    this.#answerCache = options.answerCache && new AnswerCacheFeed(clock, options.answerCache, seed);
    names.onTouched = (touched) => this.#answerCache?.touched(touched);
    const limit = mostUnderWay === undefined ? {} : { mostUnderWay };
    this.#resolver = new OutsideResolver({ clock, random, log, resolvers, forward, ...limit });
    this.#handlers = createHandlers(random, this.#resolver);
    this.#listeners = new Listeners({
      ...{ clock, log, openUdp: options.openUdp, ...(port !== undefined && { port }) },
      receiveUdp: (message, source, via, reply) => {
        if (this.#datagrams.take(source, this.#second())) this.#receive(message, source, via, udpLimit, reply);
        else this.#counters.ignored++;
      },
      receiveTcp: (message, source, via, reply) => this.#receive(message, source, via, () => TCP_BYTES, reply),
      onLimited: () => this.#counters.connectionsLimited++,
    });
  }

  setResolvers(resolvers: readonly string[]): void {
    this.#resolver.setResolvers(resolvers);
  }

  stats(): DnsStats {
    const answersByRcode = Object.fromEntries(this.#answersByRcode);
    return { ...this.#resolver.stats(), ...this.#counters, answersByRcode };
  }

  /** The addresses and ports where it answers now. */
  endpoints(): { address: string; port: number }[] {
    return this.#listeners.endpoints();
  }

  /** As Listeners.listen(). */
  listen(addresses: readonly string[]): Promise<void> {
    return this.#listeners.listen(addresses);
  }

  stop(): Promise<void> {
    return this.listen([]);
  }

  /** Returns false when the message cannot be answered. */
  #receive(
    message: Buffer,
    source: Ipv4,
    via: Ipv4,
    limitOf: (query: Query) => number,
    reply: (response: Buffer) => void,
  ): boolean {
    this.#counters.queries++;
    const query = parseQuery(message);
    if (query === undefined || query.fault === Rcode.FormErr) this.#counters.malformed++;
    if (query === undefined) return false;
    const { names } = this.#options;
    const networks = names.networksOf(source, via);
    if (networks === undefined && !this.#refusals.take(this.#second())) {
      this.#counters.ignored++;
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
    return records <= SHORT_RECORDS || this.#records.take(client, this.#second(), records);
  }

  #second(): number {
    return Math.floor(this.#options.clock.monotonic() / 1000);
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

/** The number of records; 0 for answers that never have many. */
function lengthOf(answer: Answer): number {
  if (answer.kind === "addresses") return answer.addresses.length;
  return answer.kind === "services" ? answer.targets.length : 0;
}
