// Queries read and answers written, on golden bytes; dns-packet, which did not write them, reads the answers.
import test from "ava";
import { decode } from "dns-packet";
import { codeOnly, parseQuery, Rcode, udpLimit } from "../../src/dns/codec.ts";
import { encodeResponse } from "../../src/dns/encode.ts";
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

test("records are cut with TC, additional ones are left out without it", (t) => {
  const query = parseQuery(bytes(`${HEADER} ${SEARCH} 0021 0001`))!;
  const target = "t".repeat(60);
  const srv = { type: "SRV", name: "", ttl: 5, data: { port: 9200, target } } as const;
  const address = { type: "A", name: target, ttl: 5, data: "10.0.0.1" } as const;
  const base = { kind: "records", rcode: Rcode.NoError, authoritative: true, authorities: [] } as const;
  const full = { ...base, answers: Array(5).fill(srv), additionals: Array(5).fill(address) };
  const partly = decode(encodeResponse(query, full, 512));
  t.is(partly.answers?.length, 5);
  t.is(partly.answers?.[0]?.name, "SeArch");
  t.is(partly.additionals?.length, 1);
  t.false(partly.flag_tc);
  const cut = decode(encodeResponse(query, { ...full, answers: Array(9).fill(srv) }, 512));
  t.is(cut.answers?.length, 6);
  t.is(cut.additionals?.length, 0);
  t.true(cut.flag_tc);
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
