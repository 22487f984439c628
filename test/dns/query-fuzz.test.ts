// Queries of every kind, right and wrong, with bytes changed: each gets what the RFCs demand, in the form they demand.
import test from "ava";
import { decode, type Packet } from "dns-packet";
import fc from "fast-check";
import { createHandlers } from "../../src/dns/handlers.ts";
import {
  type Answer,
  codeOnly,
  encodeResponse,
  parseQuery,
  type Query,
  Rcode,
  udpLimit,
} from "../../src/dns/message.ts";
import { Names } from "../../src/dns/names.ts";
import { OutsideResolver } from "../../src/dns/resolver.ts";
import { ipv4 } from "../../src/lib/ip.ts";
import { silentLog } from "../../src/lib/log.ts";
import { applyChanges } from "../fakes/apply-changes.ts";
import { seededRandom } from "../fakes/seeded-random.ts";
import { VirtualClock } from "../fakes/virtual-clock.ts";
import { type Demanded, demandedOf } from "./demanded.ts";
import { exampleState, idOf, running, serviceRow, taskRow } from "./example-state.ts";
import { mutations } from "./mutation.ts";

const RUNS = { numRuns: 6_000, seed: Date.now() & 0x7fffffff, includeErrorInReport: true };

const NAMES = ["search", "tasks.crowd", "_9200._tcp.search", "2.16.192.10.in-addr.arpa", "overlay", "x.web", ""];
const SOA = Buffer.from(`00 0006 0001 00000000 0016 00 00 ${"00000001".repeat(5)}`.replaceAll(" ", ""), "hex");

function wireOf(labels: readonly string[]): Buffer {
  const parts = labels.map((label) => Buffer.concat([Buffer.from([label.length]), Buffer.from(label)]));
  return Buffer.concat([...parts, Buffer.from([0])]);
}

/** Of the cluster, the world, or around the limits of 63 bytes a label and 255 in all. */
const name = fc.oneof(
  { weight: 9, arbitrary: fc.constantFrom(...NAMES).map((text) => wireOf(text === "" ? [] : text.split("."))) },
  {
    weight: 1,
    arbitrary: fc
      .tuple(fc.constantFrom(62, 63, 64), fc.integer({ min: 59, max: 63 }))
      .map(([first, last]) => wireOf([first, 63, 63, last].map((length) => "x".repeat(length)))),
  },
);

/** One time in ten `other`, else `usual`. */
function mostly<T>(usual: T, other: fc.Arbitrary<T>): fc.Arbitrary<T> {
  return fc.oneof({ weight: 9, arbitrary: fc.constant(usual) }, { weight: 1, arbitrary: other });
}

/** With an option of 8 bytes, or one that says that it has more. */
const opt = fc
  .record({
    owner: mostly("00", fc.constantFrom("c00c", "c0ff", "0161c00c")),
    bytes: fc.constantFrom(0, 512, 800, 1232, 4096),
    version: mostly(0, fc.constantFrom(1, 255)),
    optionBytes: mostly(8, fc.constantFrom(7, 9)),
  })
  .map(({ owner, bytes, version, optionBytes }) =>
    Buffer.concat([Buffer.from(owner, "hex"), words([41, bytes, version, 0, 12, 12, optionBytes]), Buffer.alloc(8)]),
  );

/** Well formed but for some counts, and of any opcode, type and class. */
const query: fc.Arbitrary<Buffer> = fc
  .record({
    opcode: mostly(0, fc.integer({ min: 1, max: 15 })),
    isResponse: mostly(0, fc.constant(1)),
    low: fc.integer({ min: 0, max: 0x7ff }), // flags, Z and a response code
    name,
    type: fc.oneof(
      fc.constantFrom(1, 1, 2, 6, 12, 16, 28, 33, 251, 251, 252, 255),
      fc.integer({ min: 0, max: 0xffff }),
    ),
    ofClass: mostly(1, fc.constantFrom(0, 3, 254, 255)),
    questions: mostly(1, fc.constantFrom(0, 2)),
    answers: mostly(0, fc.constant(1)),
    authorities: mostly([], fc.array(fc.oneof(fc.constant(SOA), opt), { minLength: 1, maxLength: 2 })),
    opts: fc.array(opt, { maxLength: 2 }),
  })
  .map(({ opcode, isResponse, low, name, type, ofClass, questions, answers, authorities, opts }) => {
    const header = [
      4660,
      (isResponse << 15) | (opcode << 11) | low,
      questions,
      answers,
      authorities.length,
      opts.length,
    ];
    return Buffer.concat([words(header), name, words([type, ofClass]), ...authorities, ...opts]);
  });

function words(values: readonly number[]): Buffer {
  const buffer = Buffer.alloc(2 * values.length);
  for (const [i, value] of values.entries()) buffer.writeUInt16BE(value, 2 * i);
  return buffer;
}

/** More than a datagram holds. */
const crowd = Array.from({ length: 200 }, (_, i) =>
  running(taskRow("crowd", i + 1, { [idOf("web")]: `10.192.17.${i}` })),
);
const service = serviceRow("crowd", { networks: [idOf("web")], endpointMode: "dnsrr" });
const state = applyChanges(exampleState, [{ kind: "services", key: service.id, row: service }, ...crowd.flat()], 8);

const names = new Names(state);
const via = ipv4("10.192.16.1");
const asker = { address: ipv4("10.192.16.31"), via, names, networks: names.networksOf(ipv4("10.192.16.31"), via)! };
const clock = new VirtualClock();
const forwarding = { clock, random: seededRandom(1), log: silentLog, resolvers: [], forward: {} };
const handlers = createHandlers(seededRandom(1), new OutsideResolver(forwarding));

async function answerOf(query: Query): Promise<Answer> {
  if (query.fault !== Rcode.NoError) return codeOnly(query.fault);
  await clock.advance(1000); // so that the client is within its limits, however many runs there are
  for (const handler of handlers) {
    const answer = await handler(query, asker);
    if (answer !== undefined) return answer;
  }
  throw new Error("no handler answered");
}

/** The response codes that a name may have: it is there, it is not, or a resolver is to be asked, and there is none or the query wants none. */
function possible(flags: number): string[] {
  return ["NOERROR", "NXDOMAIN", (flags & 0x0100) === 0 ? "REFUSED" : "SERVFAIL"];
}

/** Why the answer is not what it must be; undefined when it is. */
async function complaint(message: Buffer): Promise<string | undefined> {
  const demand = demandedOf(message);
  seen.set(demand.is, (seen.get(demand.is) ?? 0) + 1);
  const query = parseQuery(message);
  if (query === undefined || demand.is === "silence") {
    return (query === undefined) === (demand.is === "silence") ? undefined : `${demand.is} is demanded`;
  }
  const response = encodeResponse(query, await answerOf(query), udpLimit(query));
  const packet: Packet & { rcode?: string } = decode(response);
  const edns = packet.additionals?.find(({ type }) => type === "OPT");
  const code =
    edns?.type === "OPT" && edns.extendedRcode === 1 && packet.rcode === "NOERROR" ? "BADVERS" : packet.rcode!;
  const [asked, answered] = [message.readUInt16BE(2), response.readUInt16BE(2)];
  const question = response.readUInt16BE(4) === 0 ? 12 : 12 + query.question.length;
  if (demand.is === "answered" ? !possible(asked).includes(code) : code !== demand.is)
    return `${code}, not ${demand.is}`;
  if (response.length > demand.mostBytes) return `${response.length} bytes, not ${demand.mostBytes}`;
  if ((edns !== undefined) !== demand.edns) return "OPT is there or not as in the query";
  if (response.readUInt16BE(0) !== message.readUInt16BE(0)) return "another id";
  if ((answered & 0x8000) === 0) return "no response";
  if ((answered & 0x7900) !== (asked & 0x7900)) return "another opcode or RD, RFC 1035 section 4.1.1";
  if ((answered & 0x0040) !== 0) return "Z is set, RFC 1035 section 4.1.1";
  if (demand.is === "answered" && question === 12) return "no question";
  if (!response.subarray(12, question).equals(message.subarray(12, question))) return "another question";
  return undefined;
}

const seen = new Map<Demanded, number>();

test("every message is answered as the RFCs demand", async (t) => {
  t.log(`seed ${RUNS.seed}`);
  await fc.assert(
    fc.asyncProperty(fc.oneof(query, mutations(query)), async (message) => {
      const found = await complaint(message);
      if (found !== undefined) throw new Error(`${found}: ${message.toString("hex")}`);
    }),
    RUNS,
  );
  t.log([...seen].map(([is, times]) => `${is} ${times}`).join(", "));
  for (const is of ["silence", "FORMERR", "NOTIMP", "REFUSED", "BADVERS", "answered"] as const)
    t.true((seen.get(is) ?? 0) > 20, is);
});
