// Feeds the packet path's answer cache: the answers that hold until what they depend on changes go there, so that the same
// question of the same container does not come to this server again.
import type { CachedAnswer } from "../datapath/answer-cache.ts";
import type { Clock } from "../lib/clock.ts";
import { formatIpv4 } from "../lib/ip.ts";
import { SourceRateLimit } from "../lib/rate-limit.ts";
import { parseReverse, SERVICE } from "./handlers.ts";
import { type Answer, HEADER_BYTES, OPT_BYTES, type Query, Rcode } from "./message.ts";
import { serviceNameOf } from "./name-entries.ts";
import { beforeNetwork } from "./named-networks.ts";
import type { Asker } from "./names.ts";

/** The limit of a client: a name that is asked for once is not to cost much more than its answer. */
const ANSWERS_PER_SECOND = 1000;
/** With more keys the cache is emptied: it has room for 2,048 answers, and each depends on about twenty keys. */
const MOST_KEYS = 65_536;

/** The packet path's cache of answers, in all its workers. */
export interface AnswerCache {
  addAnswer(answer: CachedAnswer): void;
  /** Empties the cache. */
  forgetAnswers(): void;
}

export class AnswerCacheFeed {
  readonly #clock: Clock;
  readonly #cache: AnswerCache;
  readonly #limit: SourceRateLimit;
  /** What the answers in the cache depend on, as keys of name-changes.ts. */
  readonly #keys = new Set<string>(); // BOUNDED: by MOST_KEYS and one answer's; empty whenever the cache is emptied
  #hasAnswers = false;

  /** `seed` keys the hash of clients. */
  constructor(clock: Clock, cache: AnswerCache, seed: number) {
    this.#clock = clock;
    this.#cache = cache;
    this.#limit = new SourceRateLimit(ANSWERS_PER_SECOND, seed);
  }

  /** Empties the cache if it may have an answer that depends on one of these keys. */
  touched(keys: readonly string[] | "all"): void {
    if (this.#hasAnswers && (keys === "all" || keys.some((key) => this.#keys.has(key)))) this.#forget();
  }

  /** Takes an answer that was given over UDP to a client of the overlay. `question` and `response` are whole messages. */
  answered(question: Buffer, query: Query, asker: Asker, answer: Answer, response: Buffer): void {
    // With an option (a cookie, RFC 7873) no question is like another.
    const plainBytes = HEADER_BYTES + query.question.length + (query.edns === undefined ? 0 : OPT_BYTES);
    if (question.length !== plainBytes || !isFixed(answer)) return;
    const { address: client, via: server } = asker;
    if (!this.#limit.take(client, Math.floor(this.#clock.monotonic() / 1000))) return;
    const keys = dependenciesOf(query.name, asker);
    if (keys === undefined) return;
    if (this.#keys.size > MOST_KEYS) this.#forget();
    for (const key of keys) this.#keys.add(key);
    this.#hasAnswers = true;
    this.#cache.addAnswer({ client, server, question: new Uint8Array(question), response: new Uint8Array(response) });
  }

  #forget(): void {
    this.#keys.clear();
    this.#hasAnswers = false;
    this.#cache.forgetAnswers();
  }
}

/** Whether the answer is of this server, and the same each time: several addresses come in another order. */
function isFixed(answer: Answer): boolean {
  if (answer.kind === "addresses") return answer.addresses.length === 1;
  if (answer.kind === "services") return answer.targets.length === 1;
  return answer.kind === "records" || (answer.kind === "negative" && answer.rcode === Rcode.NoError);
}

/**
 * The keys (name-changes.ts) that an answer about `name` depends on for this client; undefined: it is no name of a service,
 * a host or an address.
 */
export function dependenciesOf(name: string, asker: Asker): string[] | undefined {
  const { address, names, networks } = asker;
  const subject = names.subjectOf(address);
  const ofAsker = [formatIpv4(address), ...(subject === undefined ? [] : [subject])];
  const reverse = parseReverse(name);
  if (reverse !== undefined) {
    const found = reverse.prefix.bits === 32 ? names.nameOf(reverse.prefix.base, networks) : undefined;
    return found && [...ofAsker, formatIpv4(reverse.prefix.base), serviceNameOf(found.name)];
  }
  const host = SERVICE.exec(name)?.[3];
  const asked = host === undefined ? [name] : [name, host];
  if (asked.every((one) => names.find(one, networks) === undefined)) return undefined;
  const relative = asked.flatMap((one) => (names.isUnderDomain(one) ? [one, names.withoutDomain(one)] : [one]));
  const onNetworks = relative.flatMap((one) => networks.flatMap((network) => beforeNetwork(one, network) ?? []));
  return [...ofAsker, ...[...relative, ...onNetworks].flatMap((one) => [one, serviceNameOf(one)])];
}
