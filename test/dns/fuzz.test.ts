// Messages of resolvers and streams of clients, with bytes changed, cut off or put in, and cut anyhow.
import test from "ava";
import { encode, type OptAnswer } from "dns-packet";
import fc from "fast-check";
import { encodeResponse, parseQuery, TCP_BYTES } from "../../src/dns/message.ts";
import { aged, parseResponse } from "../../src/dns/response.ts";
import { TcpFrames } from "../../src/dns/tcp-frames.ts";
import { mutations } from "./mutation.ts";

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
    fc.property(mutations(fc.constantFrom(...responses)), fc.nat(100_000), (message, ageSeconds) => {
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
