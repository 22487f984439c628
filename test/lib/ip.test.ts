// Addresses and prefixes: what is read, what is refused, and the arithmetic at the edges.
import test from "ava";
import fc from "fast-check";
import * as ip from "../../src/lib/ip.ts";

const ADDRESSES: [text: string, value: number][] = [
  ["0.0.0.0", 0],
  ["10.0.0.1", 0x0a000001],
  ["127.255.255.255", 0x7fffffff],
  ["128.0.0.0", -0x80000000],
  ["255.255.255.255", -1],
];
for (const [text, value] of ADDRESSES) {
  test(`${text} is read and written`, (t) => {
    t.is(ip.parseIpv4(text), value);
    t.is(ip.formatIpv4(value), text);
  });
}

const NOT_ADDRESSES = ["", "10.0.0", "10.0.0.0.0", "10.0.0.256", "10.0.0.300", "10.0.0.01", "00.0.0.0", "10.0.0.-1"];
for (const text of [...NOT_ADDRESSES, " 10.0.0.1", "10.0.0.1\n", "0x0a.0.0.1", "10.0.0.1/32", "::1", "１0.0.0.1"]) {
  test(`${JSON.stringify(text)} is not an address`, (t) => {
    t.is(ip.parseIpv4(text), undefined);
    t.throws(() => ip.ipv4(text), { instanceOf: RangeError, message: /is not an IPv4 address/ });
  });
}

test("every address is written and read again", (t) => {
  t.notThrows(() => fc.assert(fc.property(fc.integer(), (value) => ip.parseIpv4(ip.formatIpv4(value)) === value)));
});

test("a mask has as many bits as its prefix", (t) => {
  t.deepEqual([0, 1, 8, 20, 31, 32].map(ip.maskOf), [0, -0x80000000, -0x1000000, -4096, -2, -1]);
});

const PREFIXES: [text: string, bits: number, size: number][] = [
  ["0.0.0.0/0", 0, 2 ** 32],
  ["128.0.0.0/1", 1, 2 ** 31],
  ["10.192.0.0/10", 10, 2 ** 22],
  ["10.192.32.0/20", 20, 4096],
  ["255.255.255.255/32", 32, 1],
];
for (const [text, bits, size] of PREFIXES) {
  test(`${text} is a prefix of ${size} addresses`, (t) => {
    const prefix = ip.cidr(text);
    t.is(prefix.bits, bits);
    t.is(ip.formatCidr(prefix), text);
    t.is(ip.sizeOf(prefix), size);
    t.true(ip.contains(prefix, prefix.base));
    t.true(ip.contains(prefix, (prefix.base + size - 1) | 0));
    t.is(ip.contains(prefix, (prefix.base + size) | 0), bits === 0);
    t.is(ip.contains(prefix, (prefix.base - 1) | 0), bits === 0);
  });
}

for (const text of ["", "10.0.0.0", "10.0.0.0/", "10.0.0.0/33", "10.0.0.0/8/8", "10.0.0.1/24", "10.0.0.0/+8", "/8"]) {
  test(`${JSON.stringify(text)} is not a prefix`, (t) => {
    t.is(ip.parseCidr(text), undefined);
    t.throws(() => ip.cidr(text), { instanceOf: RangeError, message: /is not an IPv4 prefix/ });
  });
}

const PAIRS: [a: string, b: string, overlap: boolean][] = [
  ["10.0.0.0/8", "10.1.0.0/16", true],
  ["10.0.0.0/8", "11.0.0.0/8", false],
  ["10.0.0.0/24", "10.0.0.0/24", true],
  ["10.0.0.0/25", "10.0.0.128/25", false],
  ["0.0.0.0/0", "203.0.113.0/24", true],
];
for (const [a, b, overlap] of PAIRS) {
  test(`${a} and ${b} ${overlap ? "overlap" : "do not overlap"}`, (t) => {
    t.is(ip.overlaps(ip.cidr(a), ip.cidr(b)), overlap);
    t.is(ip.overlaps(ip.cidr(b), ip.cidr(a)), overlap);
  });
}

test("an address's MAC is 02:42 and its bytes", (t) => {
  t.is(ip.macOf(ip.ipv4("10.192.32.10")), "02:42:0a:c0:20:0a");
  t.is(ip.macOf(-1), "02:42:ff:ff:ff:ff");
});
