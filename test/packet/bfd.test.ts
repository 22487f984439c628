// BFD control packets against golden bytes, and what RFC 5880 says is none.
import test from "ava";
import * as bfd from "../../src/packet/bfd.ts";
import * as golden from "../golden/packets.ts";

test("a BFD packet is read", (t) => {
  const at = golden.BFD_UP_AT;
  const frame = golden.BFD_UP;
  t.true(bfd.isBfd(frame, at, bfd.BFD_BYTES));
  t.is(bfd.bfdState(frame, at), bfd.BfdState.Up);
  t.is(bfd.bfdFlags(frame, at), 0);
  t.is(bfd.diagnostic(frame, at), bfd.Diagnostic.None);
  t.is(bfd.detectMultiplier(frame, at), 3);
  t.is(bfd.myDiscriminator(frame, at), 1);
  t.is(bfd.yourDiscriminator(frame, at), 2);
  t.is(bfd.desiredMinTx(frame, at), 300_000);
  t.is(bfd.requiredMinRx(frame, at), 300_000);
});

test("a BFD packet is written", (t) => {
  const written = new Uint8Array(bfd.BFD_BYTES).fill(0xee);
  bfd.writeBfd(written, 0, {
    state: bfd.BfdState.Up,
    diagnostic: bfd.Diagnostic.None,
    flags: 0,
    detectMultiplier: 3,
    myDiscriminator: 1,
    yourDiscriminator: 2,
    desiredMinTxMicros: 300_000,
    requiredMinRxMicros: 300_000,
  });
  t.deepEqual(written, golden.BFD_UP.slice(golden.BFD_UP_AT));
});

// RFC 5880 section 6.8.6, in its order.
const NOT_BFD: [title: string, at: number, value: number][] = [
  ["another version", 0, 0x40],
  ["a length below 24", 3, 23],
  ["a length beyond the payload", 3, 25],
  ["a detection multiplier of 0", 2, 0],
  ["the multipoint bit", 1, 0xc1],
  ["authentication, which nobody asked for", 1, 0xc4],
  ["my discriminator 0", 7, 0],
  ["your discriminator 0 in state Up", 11, 0],
];
for (const [title, at, value] of NOT_BFD) {
  test(`a BFD packet with ${title} is discarded`, (t) => {
    const packet = golden.BFD_UP.slice(golden.BFD_UP_AT);
    packet[at] = value;
    t.false(bfd.isBfd(packet, 0, packet.length));
  });
}

test("your discriminator may be 0 in the states Down and AdminDown only", (t) => {
  const packet = golden.BFD_UP.slice(golden.BFD_UP_AT);
  packet[11] = 0;
  const accepted = [0, 1, 2, 3].filter((state) => {
    packet[1] = state << 6;
    return bfd.isBfd(packet, 0, packet.length);
  });
  t.deepEqual(accepted, [bfd.BfdState.AdminDown, bfd.BfdState.Down]);
});
