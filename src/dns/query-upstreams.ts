// One question, asked of one resolver after the other until one knows the answer or the time is over.
import type { Clock } from "../lib/clock.ts";
import { messageOf } from "../lib/errors.ts";
import type { Log } from "../lib/log.ts";
import type { Random } from "../lib/random.ts";
import { exchangeTcp, exchangeUdp } from "./exchange.ts";
import { encodeUpstreamQuery, type Query, Rcode } from "./message.ts";
import { parseResponse, type Response } from "./response.ts";
import type { Upstream } from "./upstream.ts";

/** For all resolvers together: below the 5 s that clients wait. */
const TOTAL_MS = 4_000;
/**
 * In the second round are those that were silent in the first: a datagram may have been lost. But not those that are
 * down, when others were heard.
 */
const ROUNDS = 2;
const FIRST_TRY_MS = 1_000;

/** What resolvers say that do not know EDNS, RFC 6891 section 7, or not ours. */
const WITHOUT_EDNS: readonly number[] = [Rcode.FormErr, Rcode.NotImp, Rcode.BadVers];

export interface AskTools {
  readonly clock: Clock;
  /** For ids: nobody may guess them. */
  readonly random: Random;
  readonly log: Log;
  readonly counters: { sentUpstream: number; upstreamFailures: number };
}

/** What one resolver gave instead of an answer. */
interface Failure {
  readonly reason: string;
  /**
   * What it says of the resolver. "alive": it cannot resolve this name. "silent" and "useless": down, or it is this
   * name's fault. "unreachable": down.
   */
  readonly state: "alive" | "silent" | "useless" | "unreachable";
}

/**
 * Asks the healthy ones first, then those that say something if of no use; undefined when none has an answer within
 * TOTAL_MS. Never rejects.
 */
export async function askUpstreams(
  query: Query,
  upstreams: readonly Upstream[],
  tools: AskTools,
): Promise<Response | undefined> {
  const { clock, log, counters } = tools;
  const startMs = clock.monotonic();
  const failures = new Map<Upstream, Failure>();
  let answer: Response | undefined;
  const notDown = upstreams.filter(({ isDown }) => !isDown);
  const rankOf = (upstream: Upstream) => (upstream.isHealthy(startMs) ? 0 : upstream.isHeard(startMs) ? 1 : 2);
  let turn = upstreams.toSorted((a, b) => rankOf(a) - rankOf(b));
  for (let round = 0; round < ROUNDS && answer === undefined; round++) {
    for (const [index, upstream] of turn.entries()) {
      const nowMs = clock.monotonic();
      const shareMs = (startMs + TOTAL_MS - nowMs) / ((ROUNDS - round) * turn.length - index);
      const tryMs = round === 0 ? Math.min(FIRST_TRY_MS, shareMs) : shareMs;
      upstream.asked(nowMs);
      const result = await askOne(upstream, query, nowMs + tryMs, tools);
      if ("message" in result) {
        failures.delete(upstream);
        if (upstream.answered(clock.monotonic())) tellUp(upstream, log);
        answer = result;
        break;
      }
      counters.upstreamFailures++;
      log.debug("a resolver has no answer", { address: upstream.name, reason: result.reason });
      failures.set(upstream, result);
    }
    const isAnyHeard = [...failures.values()].some(({ state }) => state === "alive" || state === "useless");
    const again = isAnyHeard ? notDown : turn;
    turn = again.filter((upstream) => failures.get(upstream)?.state === "silent");
  }
  for (const [upstream, { state, reason }] of failures) {
    // What another resolver could answer was not the name's fault.
    const name = answer === undefined && state !== "unreachable" ? query.name : undefined;
    if (state === "alive") {
      if (upstream.answered(clock.monotonic())) tellUp(upstream, log);
    } else if (upstream.failed(startMs, clock.monotonic(), name, state === "useless")) {
      log.warn("a resolver is down, it is asked after the others", { address: upstream.name, reason });
    }
  }
  return answer;
}

function tellUp(upstream: Upstream, log: Log): void {
  log.info("a resolver answers again", { address: upstream.name });
}

async function askOne(
  upstream: Upstream,
  query: Query,
  deadlineMs: number,
  tools: AskTools,
): Promise<Response | Failure> {
  const { clock, random, counters } = tools;
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
    // It answered a datagram, so it is not down for want of TCP.
    return { reason: messageOf(error), state: response === undefined ? "unreachable" : "alive" };
  }
  if (response === undefined) return { reason: "no answer in time", state: "silent" };
  const { truncated, rcode } = response;
  if (truncated) return { reason: "no whole answer over TCP", state: "alive" };
  if (rcode === Rcode.NoError || rcode === Rcode.NXDomain) return response;
  return { reason: `response code ${rcode}`, state: rcode === Rcode.ServFail ? "alive" : "useless" };
}
