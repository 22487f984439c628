// Golden messages with bytes changed, cut off or put in: nothing throws, and every query gets what the RFCs say.
import test from "ava";
import { decode, encode, type OptAnswer } from "dns-packet";
import fc from "fast-check";
import { type Answer, parseQuery, Rcode, TCP_BYTES, udpLimit } from "../../src/dns/codec.ts";
import { compileNames } from "../../src/dns/compile-names.ts";
import { encodeResponse } from "../../src/dns/encode.ts";
import { Forwarder } from "../../src/dns/forward.ts";
import { createHandlers } from "../../src/dns/handlers.ts";
import { aged, parseResponse } from "../../src/dns/response.ts";
import { TcpFrames } from "../../src/dns/tcp-frames.ts";
import { ipv4 } from "../../src/lib/ip.ts";
import { silentLog } from "../../src/lib/log.ts";
import { seededRandom } from "../fakes/seeded-random.ts";
import { VirtualClock } from "../fakes/virtual-clock.ts";
import { exampleState } from "./example-state.ts";

const RUNS = { numRuns: 3_000, seed: Date.now() & 0x7fffffff };

const OPT: OptAnswer = {
  type: "OPT",
  name: ".",
  udpPayloadSize: 1232,
  flags: 0x8000,
  extendedRcode: 0,
  ednsVersion: 0,
  flag_do: true,
  options: [{ code: 12, length: 8 }],
};
const golden = (
  [
    ["search", "A"],
    ["tasks.search.web.overlay", "A"],
    ["_9200._tcp.search", "SRV"],
    ["2.16.192.10.in-addr.arpa", "PTR"],
    ["overlay", "SOA"],
    ["nothing.overlay", "TXT"],
    [".", "NS"],
  ] as const
).flatMap(([name, type]) => [
  encode({ type: "query", id: 4660, flags: 0x0100, questions: [{ name, type }] }),
  encode({
    type: "query",
    id: 4660,
    flags: 0x0100,
    questions: [{ name, type }],
    additionals: [OPT],
  }),
]);

type Mutation =
  | { kind: "set"; at: number; byte: number }
  | { kind: "cut"; at: number }
  | { kind: "insert"; at: number; bytes: Uint8Array };

const at = fc.double({ min: 0, max: 1, noNaN: true, maxExcluded: true });
const byte = fc.oneof(fc.integer({ min: 0, max: 255 }), fc.constantFrom(0, 1, 2, 12, 63, 64, 0x80, 0xc0, 0xff));
const mutation: fc.Arbitrary<Mutation> = fc.oneof(
  { weight: 6, arbitrary: fc.record({ kind: fc.constant("set" as const), at, byte }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("cut" as const), at }) },
  {
    weight: 1,
    arbitrary: fc.record({ kind: fc.constant("insert" as const), at, bytes: fc.uint8Array({ maxLength: 64 }) }),
  },
);

function mutated(message: Buffer, mutations: readonly Mutation[]): Buffer {
  return mutations.reduce((bytes, change) => {
    const offset = Math.floor(change.at * bytes.length);
    const head = bytes.subarray(0, offset);
    if (change.kind === "cut") return Buffer.from(head);
    if (change.kind === "insert") return Buffer.concat([head, change.bytes, bytes.subarray(offset)]);
    const copy = Buffer.from(bytes);
    if (offset < copy.length) copy[offset] = change.byte;
    return copy;
  }, message);
}

function messages(originals: readonly Buffer[]): fc.Arbitrary<Buffer> {
  return fc
    .tuple(fc.constantFrom(...originals), fc.array(mutation, { maxLength: 4 }))
    .map(([message, mutations]) => mutated(message, mutations));
}

const names = compileNames(exampleState);
const handlers = createHandlers(
  seededRandom(1),
  new Forwarder({ clock: new VirtualClock(), random: seededRandom(1), log: silentLog, resolvers: [], forward: {} }),
);

test("every query that can be answered is, under its id, within its limit, readable and with its own question", async (t) => {
  t.log(`seed ${RUNS.seed}`);
  const via = ipv4("10.192.16.1");
  const asker = { address: ipv4("10.192.16.31"), via, names, networks: names.networksOf(ipv4("10.192.16.31"), via)! };
  await fc.assert(
    fc.asyncProperty(messages(golden), async (message) => {
      const query = parseQuery(message);
      if (query === undefined) return message.length < 4 || message[2]! >= 0x80;
      const answer = query.fault === Rcode.NoError ? await firstAnswer(query) : faultOf(query.fault);
      const response = encodeResponse(query, answer, udpLimit(query));
      decode(response);
      const wellFormed = readsWhole(message);
      const rcode = response[3]! & 15;
      return (
        response.length <= udpLimit(query) &&
        response.readUInt16BE(0) === message.readUInt16BE(0) &&
        (response[2]! & 0x80) !== 0 &&
        (query.question.length === 0 || message.indexOf(response.subarray(12, 12 + query.question.length)) === 12) &&
        (wellFormed || rcode === Rcode.FormErr || rcode === Rcode.NotImp)
      );
    }),
    RUNS,
  );
  t.pass();

  async function firstAnswer(query: NonNullable<ReturnType<typeof parseQuery>>): Promise<Answer> {
    for (const handler of handlers) {
      const answer = await handler(query, asker);
      if (answer !== undefined) return answer;
    }
    throw new Error("no handler answered");
  }
});

function faultOf(rcode: Rcode): Answer {
  return { kind: "records", rcode, authoritative: false, answers: [], authorities: [] };
}

/** An independent reading of a query's form: dns-packet takes it, and its sections say one question and no answers. */
function readsWhole(message: Buffer): boolean {
  if (message.length < 12) return false;
  try {
    const packet = decode(message);
    return packet.questions?.length === 1 && packet.answers?.length === 0 && packet.authorities?.length === 0;
  } catch {
    return false;
  }
}

const question = { name: "www.example.org", type: "A" } as const;
const upstreamQuery = parseQuery(encode({ type: "query", id: 1, flags: 0x0100, questions: [question] }))!;
const responses = [
  encode({
    type: "response",
    id: 7,
    flags: 0x0180,
    questions: [question],
    answers: [
      { type: "CNAME", name: "www.example.org", ttl: 60, data: "example.org" },
      { type: "A", name: "example.org", ttl: 30, data: "203.0.113.1" },
    ],
    additionals: [OPT],
  }),
  encode({
    type: "response",
    id: 7,
    flags: 0x0183,
    questions: [question],
    authorities: [
      {
        type: "SOA",
        name: "example.org",
        ttl: 300,
        data: { mname: "a", rname: "b", serial: 1, refresh: 1, retry: 1, expire: 1, minimum: 30 },
      },
    ],
  }),
];

test("an upstream's response is refused or kept whole, and what is kept can be aged and sent on", (t) => {
  t.log(`seed ${RUNS.seed}`);
  let kept = 0;
  fc.assert(
    fc.property(messages(responses), fc.nat(100_000), (message, ageSeconds) => {
      const response = parseResponse(message, upstreamQuery, 7);
      if (response === undefined) return true;
      kept++;
      const copy = aged(response, ageSeconds, 86_400);
      const sent = encodeResponse(upstreamQuery, { kind: "message", message: copy }, TCP_BYTES);
      return sent.length === response.message.length && sent.readUInt16BE(0) === 1;
    }),
    RUNS,
  );
  t.true(kept > 100);
});

test("messages come out of a TCP stream as they went in, however it is cut", (t) => {
  t.log(`seed ${RUNS.seed}`);
  fc.assert(
    fc.property(
      fc.array(fc.uint8Array({ maxLength: 600 }), { maxLength: 8 }),
      fc.array(fc.integer({ min: 1, max: 700 }), { minLength: 1, maxLength: 20 }),
      (sent, cuts) => {
        const stream = Buffer.concat(sent.map((message) => TcpFrames.frame(Buffer.from(message))));
        const frames = new TcpFrames();
        const received: Buffer[] = [];
        for (let offset = 0, i = 0; offset < stream.length; i++) {
          const end = offset + cuts[i % cuts.length]!;
          frames.push(stream.subarray(offset, end));
          for (let message = frames.next(); message !== undefined; message = frames.next()) received.push(message);
          offset = end;
        }
        return Buffer.concat(received).equals(Buffer.concat(sent)) && received.length === sent.length;
      },
    ),
    { ...RUNS, numRuns: 500 },
  );
  t.pass();
});
