// Associations: numbers, the window against replays, and what is refused, with the real cipher.
import test from "ava";
import fc from "fast-check";
import {
  InboundAssociation,
  OutboundAssociation,
  REKEY_AFTER_PACKETS,
  Refusal,
} from "../../src/datapath/association.ts";
import { ReplayWindow, WINDOW } from "../../src/datapath/replay-window.ts";
import { AeadEngine, KEY_BYTES } from "../../src/linux/aead.ts";
import { ESP_BYTES, isEsp, LAST_SEQUENCE, sequenceOf } from "../../src/packet/esp.ts";
import { PacketMemory } from "../../src/packet/memory.ts";

const SPI = 0x1234;
const ROOM = 2048;

class Pair {
  readonly memory = new PacketMemory(1 << 18);
  readonly engine = new AeadEngine(this.memory);
  readonly at = this.memory.alloc(ROOM);
  readonly key = Buffer.alloc(KEY_BYTES, 9);
  readonly outbound: OutboundAssociation;
  readonly inbound = new InboundAssociation(this.memory, SPI, this.engine.opening(this.key));

  constructor(sequence = 0) {
    this.outbound = new OutboundAssociation(this.memory, SPI, this.engine.sealing(this.key), sequence);
  }

  seal(text: string): Uint8Array {
    this.memory.u8.set(Buffer.from(text), this.at + ESP_BYTES);
    const bytes = this.outbound.seal(this.at, text.length);
    return this.memory.u8.slice(this.at, this.at + bytes);
  }

  /** What was opened, or the refusal. */
  open(packet: Uint8Array): string | number {
    this.memory.u8.set(packet, this.at);
    if (!isEsp(this.memory.view, this.at, packet.length)) return "no ESP";
    const bytes = this.inbound.open(this.at, packet.length);
    if (bytes < 0) return bytes;
    const start = this.at + ESP_BYTES;
    return Buffer.from(this.memory.u8.subarray(start, start + bytes)).toString();
  }
}

test("what one end seals the other opens, and no more than once", (t) => {
  const pair = new Pair();
  const packets = ["one", "two and more", ""].map((text) => pair.seal(text));
  t.deepEqual(
    packets.map((packet) => pair.open(packet)),
    ["one", "two and more", ""],
  );
  for (const packet of packets) t.is(pair.open(packet), Refusal.Replayed);
  t.is(pair.inbound.packets, 3);
});

test("a flipped bit anywhere is refused, and leaves the window as it was", (t) => {
  const pair = new Pair();
  const packet = pair.seal("something");
  for (let bit = 0; bit < 8 * packet.length; bit++) {
    const forged = packet.slice();
    forged[bit >> 3]! ^= 1 << (bit & 7);
    const found = pair.open(forged);
    t.true(typeof found === "number" || found === "no ESP", `bit ${bit}: ${found}`);
  }
  t.is(pair.inbound.packets, 0);
  t.is(pair.open(packet), "something");
});

test("a cut packet is refused", (t) => {
  const pair = new Pair();
  const packet = pair.seal("something that is cut");
  for (let bytes = 0; bytes < packet.length; bytes++) {
    const found = pair.open(packet.subarray(0, bytes));
    t.true(found === "no ESP" || found === Refusal.BadSeal, `${bytes}: ${found}`);
  }
});

test("numbers end: the last one is sealed, and nothing after it", (t) => {
  const pair = new Pair(LAST_SEQUENCE - 1);
  const last = pair.seal("last");
  t.is(sequenceOf(new DataView(last.buffer), 0), LAST_SEQUENCE);
  t.is(pair.seal("none").length, 0);
  t.is(pair.open(last), "last");
  t.is(pair.outbound.packets, LAST_SEQUENCE);
});

test("an association is old long before that", (t) => {
  t.false(new Pair(REKEY_AFTER_PACKETS - 1).outbound.isOld);
  t.true(new Pair(REKEY_AFTER_PACKETS).outbound.isOld);
});

test("after it was closed nothing is sealed or opened", (t) => {
  const pair = new Pair();
  const packet = pair.seal("something");
  pair.outbound.close();
  pair.inbound.close();
  t.is(pair.seal("more").length, 0);
  t.is(pair.open(packet), Refusal.BadSeal);
});

test("the window takes each number once, in any order within it: as a set of all numbers says", (t) => {
  const starts = fc.constantFrom(1, WINDOW, 2 ** 31 - 40, 2 ** 32 - 3000);
  const steps = fc.array(fc.integer({ min: -1500, max: 1500 }), { maxLength: 300 });
  fc.assert(
    fc.property(starts, steps, (start, moves) => {
      const window = new ReplayWindow();
      const taken = new Set<number>();
      let highest = 0;
      let at = start;
      for (const move of moves) {
        at = Math.min(Math.max(at + move, 0), LAST_SEQUENCE);
        const expected = at > 0 && (at > highest || (at + WINDOW > highest && !taken.has(at)));
        t.is(window.mayTake(at), expected, `${at}, the highest is ${highest}`);
        if (!expected) continue;
        window.take(at);
        taken.add(at);
        highest = Math.max(highest, at);
      }
    }),
    { numRuns: 500 },
  );
});

test("a number far ahead leaves nothing of before in the window", (t) => {
  const window = new ReplayWindow();
  for (let i = 1; i <= WINDOW; i++) window.take(i);
  window.take(10 * WINDOW);
  for (let i = 9 * WINDOW + 1; i < 10 * WINDOW; i++) t.true(window.mayTake(i));
  t.false(window.mayTake(9 * WINDOW));
});
