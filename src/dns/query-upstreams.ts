// Asks one question of one resolver after the other, until one knows the answer or the time is over.
import type { Clock } from "../lib/clock.ts";
import { messageOf } from "../lib/errors.ts";
import type { Log } from "../lib/log.ts";
import type { Random } from "../lib/random.ts";
import { exchangeTcp, exchangeUdp } from "./exchange.ts";
import { encodeUpstreamQuery, type Query, Rcode } from "./message.ts";
import { parseResponse, type Response } from "./response.ts";
import type { Upstream } from "./upstream.ts";

/** The time for all resolvers together: below the 5 s that clients wait. */
const TOTAL_MS = 4_000;
/** The second round is for resolvers that were silent in the first: a datagram may have been lost. */
const ROUNDS = 2;
const FIRST_TRY_MS = 1_000;

/** Response codes of resolvers that do not know EDNS, RFC 6891 section 7, or not this version. */
const WITHOUT_EDNS: readonly number[] = [Rcode.FormErr, Rcode.NotImp, Rcode.BadVers];

export interface QueryOptions {
  readonly clock: Clock;
  /** For ids: nothing outside may guess them. */
  readonly random: Random;
  readonly log: Log;
  readonly counters: { sentUpstream: number; upstreamFailures: number };
}

/** What one resolver gave instead of an answer. */
interface Failure {
  readonly reason: string;
  /**
   * What that says about the resolver. "alive": it cannot resolve this name. "silent" and "useless": it is down, or the
   * fault is this name's. "unreachable": it is down.
   */
  readonly state: "alive" | "silent" | "useless" | "unreachable";
}

/** The question's last failure at each resolver, without those that answered later. */
type Failures = Map<Upstream, Failure>;

/** Asks healthy resolvers first. Returns undefined when none has an answer within TOTAL_MS. Never rejects. */
export async function queryUpstreams(
  query: Query,
  upstreams: readonly Upstream[],
  options: QueryOptions,
): Promise<Response | undefined> {
  const startMs = options.clock.monotonic();
  const failures: Failures = new Map();
  const wereUp = upstreams.filter(({ isDown }) => !isDown);
  let turn = byHealth(upstreams, startMs);
  let answer: Response | undefined;
  for (let round = 0; round < ROUNDS && answer === undefined; round++) {
    answer = await askInTurn(query, turn, round, startMs + TOTAL_MS, failures, options);
    turn = silentOnes(turn, wereUp, failures);
  }
  // A failure is not the name's fault when another resolver could answer.
  judge(failures, answer === undefined ? query.name : undefined, startMs, options);
  return answer;
}

/** Healthy resolvers first, then those that answer at once, if with nothing of use. */
function byHealth(upstreams: readonly Upstream[], nowMs: number): Upstream[] {
  const rankOf = (upstream: Upstream) => (upstream.isHealthy(nowMs) ? 0 : upstream.isHeard(nowMs) ? 1 : 2);
  return upstreams.toSorted((a, b) => rankOf(a) - rankOf(b));
}

/** Asks each until one answers. The time that is left is shared among all that are still to be asked, in this round and the next. */
async function askInTurn(
  query: Query,
  turn: readonly Upstream[],
  round: number,
  deadlineMs: number,
  failures: Failures,
  options: QueryOptions,
): Promise<Response | undefined> {
  const { clock, log, counters } = options;
  for (const [index, upstream] of turn.entries()) {
    const nowMs = clock.monotonic();
    const shareMs = (deadlineMs - nowMs) / ((ROUNDS - round) * turn.length - index);
    upstream.asked(nowMs);
    const result = await askOne(
      upstream,
      query,
      nowMs + (round === 0 ? Math.min(FIRST_TRY_MS, shareMs) : shareMs),
      options,
    );
    if ("message" in result) {
      failures.delete(upstream);
      noteAnswer(upstream, options);
      return result;
    }
    counters.upstreamFailures++;
    log.debug("a resolver has no answer", { address: upstream.name, reason: result.reason });
    failures.set(upstream, result);
  }
  return undefined;
}

/** The silent resolvers, to be asked again; without those that were down before, when another one was heard. */
function silentOnes(turn: readonly Upstream[], wereUp: readonly Upstream[], failures: Failures): Upstream[] {
  const isAnyHeard = [...failures.values()].some(({ state }) => state === "alive" || state === "useless");
  return (isAnyHeard ? wereUp : turn).filter((upstream) => failures.get(upstream)?.state === "silent");
}

/** Counts the failures to each resolver's health. `name`: the question's, when the failures may be its fault. */
function judge(failures: Failures, name: string | undefined, startMs: number, options: QueryOptions): void {
  const { clock, log } = options;
  for (const [upstream, { state, reason }] of failures) {
    if (state === "alive") {
      noteAnswer(upstream, options);
      continue;
    }
    const fault = state === "unreachable" ? undefined : name;
    if (upstream.failed(startMs, clock.monotonic(), fault, state === "useless"))
      log.warn("a resolver is down, it is asked after the others", { address: upstream.name, reason });
  }
}

function noteAnswer(upstream: Upstream, { clock, log }: QueryOptions): void {
  if (upstream.answered(clock.monotonic())) log.info("a resolver answers again", { address: upstream.name });
}

async function askOne(
  upstream: Upstream,
  query: Query,
  deadlineMs: number,
  options: QueryOptions,
): Promise<Response | Failure> {
  const { clock, random, counters } = options;
  const once = (exchange: typeof exchangeUdp<Response>, withEdns: boolean) => {
    counters.sentUpstream++;
    const id = Math.floor(random() * 0x10000);
    return exchange({
      upstream,
      query: encodeUpstreamQuery(query, id, withEdns),
      accept: (message) => parseResponse(message, query, id),
      clock,
      timeoutMs: deadlineMs - clock.monotonic(),
    });
  };
  let response: Response | undefined;
  try {
    response = await once(exchangeUdp, true);
    const withEdns = response === undefined || !WITHOUT_EDNS.includes(response.rcode);
    if (!withEdns) response = await once(exchangeUdp, false);
    if (response?.truncated) response = (await once(exchangeTcp, withEdns)) ?? response;
  } catch (error) {
    // It answered a datagram, so it is not down, although TCP fails.
    return { reason: messageOf(error), state: response === undefined ? "unreachable" : "alive" };
  }
  if (response === undefined) return { reason: "no answer in time", state: "silent" };
  const { truncated, rcode } = response;
  if (truncated) return { reason: "no whole answer over TCP", state: "alive" };
  if (rcode === Rcode.NoError || rcode === Rcode.NXDomain) return response;
  return { reason: `response code ${rcode}`, state: rcode === Rcode.ServFail ? "alive" : "useless" };
}
