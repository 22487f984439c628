// Which answers will be the same as long as the names are: somebody nearer to who asks may give them meanwhile.
import type { Clock } from "../lib/clock.ts";
import type { Ipv4 } from "../lib/ip.ts";
import { type Answer, HEADER_BYTES, OPT_BYTES, type Query, Rcode } from "./codec.ts";
import { RateLimit } from "./rate-limit.ts";

/** Of a client: names that nobody asks for twice are not to cost much more than their answer. */
const ANSWERS_PER_SECOND = 1000;

export interface LastingAnswer {
  readonly client: Ipv4;
  /** The address that was asked. */
  readonly server: Ipv4;
  /** Whole messages, in buffers of their own. */
  readonly question: Uint8Array;
  readonly response: Uint8Array;
}

export class LastingAnswers {
  readonly #clock: Clock;
  readonly #tell: (answer: LastingAnswer) => void;
  readonly #limit = new RateLimit(ANSWERS_PER_SECOND);

  constructor(clock: Clock, tell: (answer: LastingAnswer) => void) {
    this.#clock = clock;
    this.#tell = tell;
  }

  /** Over UDP. */
  answered(client: Ipv4, server: Ipv4, question: Buffer, query: Query, answer: Answer, response: Buffer): void {
    // With an option (a cookie, RFC 7873) no question is like another.
    const plainBytes = HEADER_BYTES + query.question.length + (query.edns === undefined ? 0 : OPT_BYTES);
    if (question.length !== plainBytes || !lasts(answer)) return;
    if (!this.#limit.allows(client, this.#clock.monotonic())) return;
    this.#tell({ client, server, question: new Uint8Array(question), response: new Uint8Array(response) });
  }
}

/** Our own, of a name that there is; several addresses come in another order each time. */
function lasts(answer: Answer): boolean {
  if (answer.kind === "addresses") return answer.addresses.length === 1;
  if (answer.kind === "services") return answer.targets.length === 1;
  return answer.kind === "records" && answer.authoritative && answer.rcode === Rcode.NoError;
}
