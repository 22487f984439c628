// The checksum's sum and its incremental updates against a plain recomputation, RFC 1071 and RFC 1624.
import test from "ava";
import fc from "fast-check";
import { createSum, deltaOf, fold, sum32, updateChecksum, updateSum } from "../../src/packet/checksum.ts";
import { PacketMemory } from "../../src/packet/memory.ts";
import { onesSum } from "../fakes/ip-packets.ts";
import { seededRandom } from "../fakes/seeded-random.ts";

const memory = new PacketMemory(1 << 18);
const sum = createSum(memory);

/** A sum and its negation: +0 and -0 are the same number in one's complement. */
const same = (a: number, b: number): boolean => a % 0xffff === b % 0xffff;

test("RFC 1071's own example", (t) => {
  memory.u8.set([0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7], 64);
  t.is(sum(64, 8, 0), 0xddf2);
});

test("RFC 1624's own example, which equation 2 of RFC 1141 gets wrong", (t) => {
  t.is(updateChecksum(0xdd2f, deltaOf(0x5555, 0x3285)), 0x0000);
});

test("the sum of every length from 0 to 200 at every alignment is the plain one", (t) => {
  const random = seededRandom(1);
  for (let i = 0; i < 512; i++) memory.u8[i] = random() * 256;
  for (let length = 0; length <= 200; length++) {
    for (let at = 0; at < 33; at++) {
      const expected = onesSum(memory.u8.subarray(at, at + length));
      if (sum(at, length, 0) !== expected) t.fail(`${length} bytes at ${at}: ${sum(at, length, 0)}, not ${expected}`);
    }
  }
  t.pass();
});

test("the sum of any length up to 65,535, onto any initial sum, is the plain one", (t) => {
  const bytes = fc.uint8Array({ maxLength: 65535, size: "max" });
  t.notThrows(() =>
    fc.assert(
      fc.property(bytes, fc.nat(63), fc.nat(0xffff), (payload, at, initial) => {
        memory.u8.set(payload, at);
        memory.u8[at + payload.length] = 0xff; // not part of it
        return sum(at, payload.length, initial) === onesSum(payload, initial);
      }),
      { numRuns: 60 },
    ),
  );
});

for (const [title, byte] of [
  ["zeros", 0],
  ["ones", 0xff],
] as const) {
  test(`the sum of ${title} alone is the plain one: nothing overflows`, (t) => {
    memory.u8.fill(byte, 0, 65536);
    for (const length of [0, 1, 2, 31, 32, 33, 1500, 65534, 65535]) {
      for (const initial of [0, 1, 0xfffe, 0xffff]) {
        t.is(sum(1, length, initial), onesSum(memory.u8.subarray(1, 1 + length), initial));
      }
    }
  });
}

test("the sum of a packet is that of its parts, the first of even length", (t) => {
  t.notThrows(() =>
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 2, maxLength: 300 }), fc.nat(), (payload, cut) => {
        memory.u8.set(payload, 64);
        const half = (cut % payload.length) & ~1;
        return sum(64, payload.length, 0) === sum(64 + half, payload.length - half, sum(64, half, 0));
      }),
    ),
  );
});

test("a fold keeps the value and ends in 16 bits", (t) => {
  const edges = [0, 1, 0xfffe, 0xffff, 0x10000, 0x1fffe, 0xffff0000, 0xfffffffe, 0xffffffff];
  for (const value of edges) t.true(fold(value) <= 0xffff && same(fold(value), value), value.toString(16));
  t.notThrows(() =>
    fc.assert(fc.property(fc.nat(0xffffffff), (value) => fold(value) <= 0xffff && same(fold(value), value))),
  );
});

test("the sum of a 32-bit value is that of its words, whatever its sign", (t) => {
  t.is(sum32(0x00010002), 3);
  t.is(sum32(-1), 0xffff);
  t.is(sum32(0xffff0001 | 0), 1);
});

/** Words with the edges of one's complement well represented. */
const word = fc.oneof(fc.constantFrom(0, 1, 0x7fff, 0x8000, 0xfffe, 0xffff), fc.nat(0xffff));

test("a checksum updated for a changed word is the one computed anew", (t) => {
  t.notThrows(() =>
    fc.assert(
      fc.property(fc.array(word, { minLength: 2, maxLength: 20 }), fc.nat(), word, (words, which, after) => {
        fc.pre(words.some((value, i) => value !== 0 && i !== which % words.length)); // no header is all zeros
        const at = which % words.length;
        const total = (list: number[]): number => fold(list.reduce((a, b) => a + b, 0));
        const before = words[at]!;
        const field = ~total(words) & 0xffff;
        const changed = words.with(at, after);
        return (
          updateChecksum(field, deltaOf(before, after)) === (~total(changed) & 0xffff) &&
          same(updateSum(total(words), deltaOf(before, after)), total(changed))
        );
      }),
      { numRuns: 2000 },
    ),
  );
});

test("a change and its reverse leave the checksum as it was", (t) => {
  t.notThrows(() =>
    fc.assert(
      fc.property(fc.nat(0xfffe), word, word, (field, before, after) => {
        const there = updateChecksum(field, deltaOf(before, after));
        return updateChecksum(there, deltaOf(after, before)) === field;
      }),
      { numRuns: 2000 },
    ),
  );
});
