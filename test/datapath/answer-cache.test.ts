// Answers that the node's DNS server gave before, given again in the packet path: whose, when, and what they look like.
import test from "ava";
import { decode, encode } from "dns-packet";
import fc from "fast-check";
import { AnswerCache, QUESTION_BYTES, RESPONSE_BYTES } from "../../src/datapath/answer-cache.ts";
import { ipv4 } from "../../src/lib/ip.ts";
import { createSum } from "../../src/packet/checksum.ts";
import { PacketMemory } from "../../src/packet/memory.ts";
import { Packet } from "../../src/packet/packet.ts";
import { type Fields, fragmentsOf, ipPacket, udpPacket } from "../fakes/ip-packets.ts";
import type { FakeNodes } from "../fakes/nodes.ts";
import { brief, cluster, exchange, send, WEB } from "../fakes/two-nodes.ts";

const CLIENT = "10.192.32.10";
const NEIGHBOR = "10.192.32.11";
const GATEWAY = "10.192.32.1";
const HEADER_BYTES = 28;

const question = (id: number, name = "search", type: "A" | "TXT" = "A") =>
  encode({ type: "query", id, flags: 0x100, questions: [{ name, type }] });
const response = (name = "search") =>
  encode({
    type: "response",
    id: 1,
    flags: 0x580,
    questions: [{ name, type: "A" }],
    answers: [{ name, type: "A", ttl: 5, data: "10.192.32.2" }],
  });

const ASKED: Fields = {
  source: CLIENT,
  destination: GATEWAY,
  protocol: "udp",
  sourcePort: 40_000,
  destinationPort: 53,
  payload: question(7),
};
const ANSWERED = [`${GATEWAY}:53 > ${CLIENT}:40000`];
const PASSED = [`${CLIENT}:40000 > ${GATEWAY}:53`];

async function knowing(): Promise<FakeNodes> {
  const fake = await cluster();
  fake.nodes[0]!.engine.answers.add({
    client: ipv4(CLIENT),
    server: ipv4(GATEWAY),
    question: question(1),
    response: response(),
  });
  return fake;
}

const given = (fake: FakeNodes): number => fake.nodes[0]!.engine.report().namesAnswered;

for (const [title, fields] of [
  ["with its checksum", {}],
  ["with its checksum still to be made", { partial: true }],
  ["without a checksum", { noChecksum: true }],
] as const) {
  test(`a question that is asked again is answered under its own id: ${title}`, async (t) => {
    const fake = await knowing();
    const { out, packets, drops } = exchange(fake, () => {
      fake.nodes[0]!.device.inject(ipPacket({ ...ASKED, ...fields }), { needsChecksum: "partial" in fields });
    });
    t.deepEqual(out[0]!.map(brief), ANSWERED);
    const expected = response();
    expected.writeUInt16BE(7, 0);
    const whole = udpPacket({
      source: GATEWAY,
      destination: CLIENT,
      sourcePort: 53,
      destinationPort: 40_000,
      payload: expected,
      id: 0,
      partial: true,
    });
    t.deepEqual(Buffer.from(packets[0]![0]!), Buffer.from(whole));
    t.is(decode(Buffer.from(packets[0]![0]!.subarray(HEADER_BYTES))).id, 7);
    t.deepEqual([drops[0], given(fake), fake.nodes[0]!.flows().length], [{}, 1, 0]);
  });
}

const passed: [title: string, fields: Partial<Fields>][] = [
  ["another name", { payload: question(7, "search2") }],
  ["another letter case", { payload: question(7, "Search") }],
  ["another type", { payload: question(7, "search", "TXT") }],
  ["with an option more", { payload: Buffer.concat([question(7), Buffer.alloc(11)]) }],
  ["another port", { destinationPort: 54 }],
  ["from port 0, where no answer can be sent", { sourcePort: 0 }],
  ["nothing but an id", { payload: question(7).subarray(0, 2) }],
  ["no payload", { payload: Buffer.alloc(0) }],
];
for (const [title, fields] of passed) {
  test(`it is the host's to answer: ${title}`, async (t) => {
    const fake = await knowing();
    const { out } = send(fake, 0, { ...ASKED, ...fields });
    t.deepEqual(
      out[0]!.map(({ source }) => source),
      [CLIENT],
    );
    t.is(given(fake), 0);
  });
}

test("another container has not asked yet", async (t) => {
  const fake = await knowing();
  const { out } = send(fake, 0, { ...ASKED, source: NEIGHBOR });
  t.deepEqual(out[0]!.map(brief), [`${NEIGHBOR}:40000 > ${GATEWAY}:53`]);
});

test("a question with a wrong checksum is dropped and counted", async (t) => {
  const fake = await knowing();
  const packet = ipPacket(ASKED);
  packet[26]! ^= 1;
  const { out, drops } = exchange(fake, () => fake.nodes[0]!.device.inject(packet));
  t.deepEqual(out[0], []);
  t.deepEqual(drops[0], { "bad-transport-checksum": 1 });
});

test("a question in fragments is the host's to put together", async (t) => {
  const fake = await knowing();
  const whole = ipPacket({ ...ASKED, fragment: 0 });
  const { packets } = exchange(fake, () => {
    for (const fragment of fragmentsOf(whole, 44)) fake.nodes[0]!.device.inject(fragment);
  });
  t.is(packets[0]!.length, 2);
  t.is(given(fake), 0);
});

test("with the names all answers are forgotten", async (t) => {
  const fake = await knowing();
  fake.nodes[0]!.engine.answers.forget();
  t.deepEqual(send(fake, 0, ASKED).out[0]!.map(brief), PASSED);
});

test("who has lost its address or its network is not answered any more", async (t) => {
  for (const kind of ["endpoint", "network"] as const) {
    const fake = await knowing();
    const node = fake.nodes[0]!;
    node.engine.apply({ put: [], delete: [`${kind} ${kind === "endpoint" ? ipv4(CLIENT) : WEB}`] });
    send(fake, 0, ASKED);
    t.is(given(fake), 0, kind);
  }
});

test("what is too long is not kept", async (t) => {
  const fake = await cluster();
  const { engine } = fake.nodes[0]!;
  const address = { client: ipv4(CLIENT), server: ipv4(GATEWAY) };
  const long = Buffer.alloc(QUESTION_BYTES + 1, question(1));
  engine.answers.add({ ...address, question: long, response: response() });
  engine.answers.add({ ...address, question: question(1), response: Buffer.alloc(RESPONSE_BYTES + 1) });
  send(fake, 0, { ...ASKED, payload: long });
  send(fake, 0, ASKED);
  t.is(given(fake), 0);
});

test("of any number of answers each is given to its own question, or to none", (t) => {
  const memory = new PacketMemory(4 << 20);
  const sum = createSum(memory);
  const answers = new AnswerCache(memory);
  const packet = new Packet(memory, sum);
  const at = memory.alloc(2048);
  const bytes = (max: number) => fc.uint8Array({ minLength: 3, maxLength: max });
  const entry = fc.record({ client: fc.nat(3), question: bytes(6), response: bytes(RESPONSE_BYTES) });
  const key = (client: number, asked: Uint8Array) => `${client} ${asked.subarray(2)}`;
  let found = 0;
  fc.assert(
    fc.property(fc.array(entry, { maxLength: 60 }), (entries) => {
      answers.forget();
      const newest = new Map<string, Uint8Array>();
      for (const { client, question, response } of entries) {
        answers.add({ client, server: 1, question, response });
        newest.set(key(client, question), response);
      }
      for (const { client, question } of entries) {
        const asked = ipPacket({
          source: `0.0.0.${client}`,
          destination: "0.0.0.1",
          protocol: "udp",
          payload: question,
          destinationPort: 53,
        });
        memory.u8.set(asked, at);
        packet.parse(at, asked.length);
        if (!answers.answer(packet)) continue;
        found++;
        const expected = newest.get(key(client, question))!;
        const payload = memory.u8.slice(at + HEADER_BYTES, at + packet.length);
        t.deepEqual(payload.subarray(2), expected.subarray(2));
        packet.completeChecksum();
        t.true(packet.headerChecksumIsRight() && packet.transportChecksumIsRight());
      }
    }),
  );
  t.true(found > 100, `${found} found`);
});
