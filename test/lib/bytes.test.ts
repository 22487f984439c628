// Big-endian fields, their signs and their edges.
import test from "ava";
import { get16, get24, get32, set16, set32 } from "../../src/lib/bytes.ts";

type Access = [
  bits: number,
  get: (bytes: Uint8Array, at: number) => number,
  set: (bytes: Uint8Array, at: number, value: number) => void,
];
const ACCESSES: Access[] = [
  [16, get16, set16],
  [32, get32, set32],
];

for (const [bits, get, set] of ACCESSES) {
  test(`a field of ${bits} bits is big-endian and touches no byte beside it`, (t) => {
    const bytes = new Uint8Array(8).fill(0xee);
    set(bytes, 1, 0x0a0b0c0d);
    const written = [0x0a, 0x0b, 0x0c, 0x0d].slice(4 - bits / 8);
    t.deepEqual([...bytes], [0xee, ...written, ...Array(7 - bits / 8).fill(0xee)]);
    t.is(get(bytes, 1), Number(`0x${written.map((byte) => byte.toString(16).padStart(2, "0")).join("")}`));
  });

  test(`of a value, a field of ${bits} bits keeps the low ones`, (t) => {
    const bytes = new Uint8Array(4);
    for (const value of [0, 1, -1, 2 ** (bits - 1), 2 ** bits - 1]) {
      set(bytes, 0, value);
      t.is(get(bytes, 0), bits === 32 ? value | 0 : value & (2 ** bits - 1));
    }
  });
}

test("a field of 24 bits is big-endian", (t) => t.is(get24(Uint8Array.of(0xee, 0x0a, 0x0b, 0x0c, 0xee), 1), 0x0a0b0c));

test("16 and 24 bits are unsigned, 32 are signed", (t) => {
  const bytes = new Uint8Array(4).fill(0xff);
  t.is(get16(bytes, 0), 0xffff);
  t.is(get24(bytes, 0), 0xffffff);
  t.is(get32(bytes, 0), -1);
});
