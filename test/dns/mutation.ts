// Messages with bytes changed, cut off or put in.
import fc from "fast-check";

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

export function mutations(originals: fc.Arbitrary<Buffer>): fc.Arbitrary<Buffer> {
  return fc
    .tuple(originals, fc.array(mutation, { maxLength: 4 }))
    .map(([message, changes]) => mutated(message, changes));
}
