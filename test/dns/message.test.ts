// Queries read and answers written, on golden bytes; dns-packet, which did not write them, reads the answers.
import test from "ava";
import { decode, encode, type Packet } from "dns-packet";
import {
  type Answer,
  codeOnly,
  encodeResponse,
  parseQuery,
  Rcode,
  TCP_BYTES,
  udpLimit,
} from "../../src/dns/message.ts";
import { ipv4 } from "../../src/lib/ip.ts";

const HEADER = "1234 0100 0001 0000 0000 0000";
const HEADER_OPT = "1234 0100 0001 0000 0000 0001";
const SEARCH = "06 53 65 41 72 63 68 00"; // SeArch
const A_IN = "0001 0001";
const SOA = `c00c 0006 0001 00000000 0016 00 00 ${"00000001".repeat(5)}`;
const OPT = "00 0029 04d0 0000 8000 0000";

function bytes(hex: string): Buffer {
  return Buffer.from(hex.replaceAll(" ", ""), "hex");
}

const label63 = `3f ${"61".repeat(63)}`;
const rows: [string, string, number | undefined][] = [
  ["a plain query", `${HEADER} ${SEARCH} ${A_IN}`, Rcode.NoError],
  ["a query with OPT", `${HEADER_OPT} ${SEARCH} ${A_IN} ${OPT}`, Rcode.NoError],
  ["OPT with a cookie", `${HEADER_OPT} ${SEARCH} ${A_IN} 00 0029 04d0 0000 0000 000c 000a 0008 0102030405060708`, 0],
  ["the root", `${HEADER} 00 ${A_IN}`, Rcode.NoError],
  ["a name of 255 bytes", `${HEADER} ${label63}${label63}${label63} 3d ${"61".repeat(61)} 00 ${A_IN}`, Rcode.NoError],
  ["an additional record that we do not know", `${HEADER_OPT} ${SEARCH} ${A_IN} c00c 00fa 00ff 00000000 0000`, 0],
  ["IXFR with the SOA that the asker has", `1234 0100 0001 0000 0001 0000 ${SEARCH} 00fb 0001 ${SOA}`, Rcode.NoError],
  ["the same with OPT", `1234 0100 0001 0000 0001 0001 ${SEARCH} 00fb 0001 ${SOA} ${OPT}`, Rcode.NoError],
  ["IXFR with two SOA", `1234 0100 0001 0000 0002 0000 ${SEARCH} 00fb 0001 ${SOA} ${SOA}`, Rcode.FormErr],
  ["IXFR with OPT as authority", `1234 0100 0001 0000 0001 0000 ${SEARCH} 00fb 0001 ${OPT}`, Rcode.FormErr],
  ["another question with an SOA", `1234 0100 0001 0000 0001 0000 ${SEARCH} ${A_IN} ${SOA}`, Rcode.FormErr],
  ["nothing", "", undefined],
  ["an id without flags", "1234 01", undefined],
  ["a response", `1234 8180 0001 0000 0000 0000 ${SEARCH} ${A_IN}`, undefined],
  ["half a header", "1234 0100 0001", Rcode.FormErr],
  ["no question", "1234 0100 0000 0000 0000 0000", Rcode.FormErr],
  ["two questions", `1234 0100 0002 0000 0000 0000 ${SEARCH} ${A_IN} ${SEARCH} ${A_IN}`, Rcode.FormErr],
  ["an answer in the query", `1234 0100 0001 0001 0000 0000 ${SEARCH} ${A_IN}`, Rcode.FormErr],
  ["a name that does not end", `${HEADER} 06 53 65`, Rcode.FormErr],
  ["a question without type", `${HEADER} ${SEARCH}`, Rcode.FormErr],
  ["a name of 256 bytes", `${HEADER} ${label63}${label63}${label63} 3e ${"61".repeat(62)} 00 ${A_IN}`, Rcode.FormErr],
  [
    "an additional record's name of 256 bytes",
    `${HEADER_OPT} ${SEARCH} ${A_IN} ${label63.repeat(3)} 3e ${"61".repeat(62)} 00 00fa 00ff 00000000 0000`,
    Rcode.FormErr,
  ],
  ["a pointer to itself", `${HEADER} c00c ${A_IN}`, Rcode.FormErr],
  ["a pointer into the header", `${HEADER} c000 ${A_IN}`, Rcode.FormErr],
  ["a label of an unknown kind", `${HEADER} 41 53 65 00 ${A_IN}`, Rcode.FormErr],
  ["bytes after the end", `${HEADER} ${SEARCH} ${A_IN} 00`, Rcode.FormErr],
  ["an additional record that is missing", `${HEADER_OPT} ${SEARCH} ${A_IN}`, Rcode.FormErr],
  ["an additional record cut short", `${HEADER_OPT} ${SEARCH} ${A_IN} 00 0029 04d0 0000 8000 0004 00`, Rcode.FormErr],
  ["pointers in a loop", `${HEADER_OPT} ${SEARCH} ${A_IN} c018 0029 04d0 0000 8000 0000`, Rcode.FormErr],
  ["OPT of another name than the root", `${HEADER_OPT} ${SEARCH} ${A_IN} c00c 0029 04d0 0000 8000 0000`, Rcode.FormErr],
  ["two OPT", `1234 0100 0001 0000 0000 0002 ${SEARCH} ${A_IN} ${OPT} ${OPT}`, Rcode.FormErr],
  ["an option longer than OPT", `${HEADER_OPT} ${SEARCH} ${A_IN} 00 0029 04d0 0000 0000 0004 000a 0001`, Rcode.FormErr],
  ["EDNS version 1", `${HEADER_OPT} ${SEARCH} ${A_IN} 00 0029 04d0 0001 0000 0000`, Rcode.BadVers],
  ["opcode STATUS", `1234 1100 0001 0000 0000 0000 ${SEARCH} ${A_IN}`, Rcode.NotImp],
  ["opcode UPDATE with anything", "1234 2800 0001 0001 0001 0001 ffff", Rcode.NotImp],
  ["class CHAOS", `${HEADER} ${SEARCH} 0010 0003`, Rcode.Refused],
];
for (const [title, hex, fault] of rows) {
  test(`${title} is ${fault === undefined ? "dropped" : `response code ${fault}`}`, (t) => {
    const query = parseQuery(bytes(hex));
    t.is(query?.fault, fault as Rcode);
    if (query === undefined || fault === undefined) return;
    const response = encodeResponse(query, codeOnly(query.fault), udpLimit(query));
    t.is(response.readUInt16BE(0), 0x1234);
    t.is(response[2]! & 0xf8, 0x80 | (bytes(hex)[2]! & 0x78));
    const packet = decode(response);
    const opt = packet.additionals?.find((record) => record.type === "OPT");
    const extended = opt?.type === "OPT" ? opt.extendedRcode : 0;
    t.is((extended << 4) | (response[3]! & 15), fault);
  });
}

test("a query's parts are read", (t) => {
  const query = parseQuery(bytes(`${HEADER_OPT} ${SEARCH} ${A_IN} ${OPT}`))!;
  t.like(query, { id: 0x1234, name: "search", type: 1, edns: { udpBytes: 1232, dnssecOk: true } });
});

test("dots and backslashes inside a label are not taken for label ends", (t) => {
  t.is(parseQuery(bytes(`${HEADER} 04 61 2e 62 5c 01 63 00 ${A_IN}`))?.name, "a\\.b\\\\.c");
});

test("an answer repeats the question as asked and points to it", (t) => {
  const query = parseQuery(bytes(`${HEADER} ${SEARCH} ${A_IN}`))!;
  const answer = { kind: "addresses", addresses: [ipv4("10.192.16.2")], ttlSeconds: 5 } as const;
  const expected = `1234 8580 0001 0001 0000 0000 ${SEARCH} ${A_IN} c00c 0001 0001 00000005 0004 0ac01002`;
  t.deepEqual(encodeResponse(query, answer, 512), bytes(expected));
});

test("EDNS is answered with EDNS, and DO comes back", (t) => {
  const query = parseQuery(bytes(`${HEADER_OPT} ${SEARCH} ${A_IN} ${OPT}`))!;
  const answer = { kind: "addresses", addresses: [-1], ttlSeconds: 5 } as const;
  const expected = `1234 8580 0001 0001 0000 0001 ${SEARCH} ${A_IN} c00c 0001 0001 00000005 0004 ffffffff ${OPT}`;
  t.deepEqual(encodeResponse(query, answer, 1232), bytes(expected));
});

test("addresses that do not fit are cut off, and TC says so", (t) => {
  const query = parseQuery(bytes(`${HEADER} ${SEARCH} ${A_IN}`))!;
  const addresses = Array.from({ length: 4000 }, (_, i) => i);
  const small = decode(encodeResponse(query, { kind: "addresses", addresses, ttlSeconds: 5 }, 512));
  t.true(small.flag_tc);
  t.is(small.answers?.length, Math.floor((512 - 24) / 16));
  const whole = decode(encodeResponse(query, { kind: "addresses", addresses, ttlSeconds: 5 }, 65535));
  t.false(whole.flag_tc);
  t.is(whole.answers?.length, 4000);
});

test("over TCP what does not fit is left out, and TC says nothing", (t) => {
  const query = parseQuery(bytes(`${HEADER} ${SEARCH} ${A_IN}`))!;
  const addresses = Array.from({ length: 4096 }, (_, i) => i);
  const packet = decode(encodeResponse(query, { kind: "addresses", addresses, ttlSeconds: 5 }, TCP_BYTES));
  t.false(packet.flag_tc);
  t.is(packet.answers?.length, Math.floor((TCP_BYTES - 24) / 16));
});

function services(count: number): Answer {
  const targets = Array.from({ length: count }, (_, i) => ({ name: `search.${i + 1}`, address: i + 1 }));
  return { kind: "services", targets, zone: "web.cluster.test", port: 9200, ttlSeconds: 5 };
}

test("SRV records come with the addresses of their targets", (t) => {
  const query = parseQuery(bytes(`${HEADER_OPT} ${SEARCH} 0021 0001 ${OPT}`))!;
  const { answers, additionals } = decode(encodeResponse(query, services(2), 512));
  t.like(answers?.[1], { type: "SRV", name: "SeArch", ttl: 5 });
  const [, second] = answers!;
  t.deepEqual(second?.type === "SRV" && second.data, {
    priority: 0,
    weight: 0,
    port: 9200,
    target: "search.2.web.cluster.test",
  });
  t.like(additionals?.[1], { type: "A", name: "search.2.web.cluster.test", ttl: 5, data: "0.0.0.2" });
  t.is(additionals?.[2]?.type, "OPT");
});

/** An SRV record of search.1 has 45 bytes, its target's address 41; each digit more is a byte more. */
const cuts: [title: string, targets: number, limit: number, answers: number, additionals: number, isCut: boolean][] = [
  ["addresses are left out when there is no room", 9, 512, 9, 2, false], // 24 + 9 * 45 + 2 * 41 = 511
  ["SRV records are cut with TC", 12, 512, 10, 0, true], // 24 + 9 * 45 + 46 = 475
  ["over TCP without it", 2000, TCP_BYTES, 1387, 1, false], // 24 + 9 * 45 + 90 * 46 + 900 * 47 + 388 * 48 + 41 = 65,534
];
for (const [title, targets, limit, answers, additionals, isCut] of cuts) {
  test(`${title}: ${targets} targets in ${limit} bytes`, (t) => {
    const query = parseQuery(bytes(`${HEADER} ${SEARCH} 0021 0001`))!;
    const response = encodeResponse(query, services(targets), limit);
    const packet = decode(response);
    t.true(response.length <= limit);
    t.is(packet.answers?.length, Math.floor(answers));
    t.is(packet.additionals?.length, Math.floor(additionals));
    t.is(packet.flag_tc, isCut);
  });
}

test("records are cut with TC", (t) => {
  const query = parseQuery(bytes(`${HEADER} ${SEARCH} 0010 0001`))!;
  const text = { type: "TXT", name: "", ttl: 5, data: "t".repeat(69) } as const;
  const whole = decode(encodeResponse(query, { kind: "records", records: Array(5).fill(text) }, 512));
  t.is(whole.answers?.[4]?.name, "SeArch");
  t.false(whole.flag_tc);
  const cut = decode(encodeResponse(query, { kind: "records", records: Array(9).fill(text) }, 512));
  t.is(cut.answers?.length, 5);
  t.true(cut.flag_tc);
});

for (const [title, zone, rcode] of [
  ["the root", "", Rcode.NXDomain],
  ["a domain", "cluster.test", Rcode.NoError],
] as const) {
  test(`that there is nothing comes with the SOA of ${title}, as dns-packet writes it`, (t) => {
    const query = parseQuery(bytes(`${HEADER_OPT} ${SEARCH} 001c 0001 ${OPT}`))!;
    const names = { mname: "ns.cluster.test", rname: "hostmaster.cluster.test" };
    const soa = { ...names, serial: 0xfffffffe, refresh: 60, retry: 10, expire: 3600, minimum: 5 };
    const response = encodeResponse(query, { kind: "negative", rcode, zone, ttlSeconds: 5, soa }, 512);
    const record = encode({ answers: [{ type: "SOA", name: zone === "" ? "." : zone, ttl: 5, data: soa }] }).subarray(
      12,
    );
    const header = `1234 858${rcode} 0001 0000 0001 0001`;
    t.deepEqual(response, Buffer.concat([bytes(`${header} ${SEARCH} 001c 0001`), record, bytes(OPT)]));
  });
}

test("an SOA that does not fit is left out, and TC says so", (t) => {
  const query = parseQuery(bytes(`${HEADER} ${SEARCH} 001c 0001`))!;
  const long = Array.from({ length: 3 }, () => "a".repeat(63)).join(".");
  const soa = {
    mname: `ns.${long}`,
    rname: `hostmaster.${long}`,
    serial: 1,
    refresh: 1,
    retry: 1,
    expire: 1,
    minimum: 1,
  };
  const answer = { kind: "negative", rcode: Rcode.NXDomain, zone: long, ttlSeconds: 5, soa } as const;
  const packet: Packet = decode(encodeResponse(query, answer, 512));
  t.like(packet, { rcode: "NXDOMAIN", flag_tc: true, authorities: [] });
});

test("a resolver's message that our OPT makes too long for TCP is a failure", (t) => {
  const query = parseQuery(bytes(`${HEADER_OPT} ${SEARCH} ${A_IN} ${OPT}`))!;
  const message = Buffer.concat([
    bytes(`0001 8180 0001 0000 0000 0001 ${SEARCH} ${A_IN}`),
    Buffer.alloc(TCP_BYTES - 30),
  ]);
  const packet: Packet = decode(encodeResponse(query, { kind: "message", message }, TCP_BYTES));
  t.like(packet, { rcode: "SERVFAIL", flag_tc: false, answers: [] });
});

const limits: [string, string, number][] = [
  ["without EDNS", `${HEADER} ${SEARCH} ${A_IN}`, 512],
  ["with EDNS of 100 bytes", `${HEADER_OPT} ${SEARCH} ${A_IN} 00 0029 0064 0000 0000 0000`, 512],
  ["with EDNS of 800 bytes", `${HEADER_OPT} ${SEARCH} ${A_IN} 00 0029 0320 0000 0000 0000`, 800],
  ["with EDNS of 4096 bytes", `${HEADER_OPT} ${SEARCH} ${A_IN} 00 0029 1000 0000 0000 0000`, 1232],
];
for (const [title, hex, expected] of limits) {
  test(`${title} a datagram has at most ${expected} bytes`, (t) => {
    t.is(udpLimit(parseQuery(bytes(hex))!), expected);
  });
}
