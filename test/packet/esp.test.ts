// ESP's fields against golden bytes, and what is none.
import test from "ava";
import fc from "fast-check";
import * as esp from "../../src/packet/esp.ts";

const MOST = 3000;

test("SPI, sequence and IV are written where RFC 4303 and RFC 4106 have them", (t) => {
  const bytes = new Uint8Array(esp.ESP_BYTES).fill(0xee);
  const view = new DataView(bytes.buffer);
  esp.writeEsp(view, 0, 0x8a2cbfe3, 0xfffffffe);
  t.is(Buffer.from(bytes).toString("hex"), "8a2cbfe3fffffffe00000000fffffffe");
  t.is(esp.spiOf(view, 0), 0x8a2cbfe3);
  t.is(esp.sequenceOf(view, 0), 0xfffffffe);
  t.is(esp.ivHighOf(view, 0), 0);
  t.is(esp.ivLowOf(view, 0), -2);
});

for (const [bytes, trailer] of [
  [6, "0011"],
  [5, "01" + "0111"],
  [4, "0102" + "0211"],
  [3, "010203" + "0311"],
] as const) {
  test(`the trailer of ${bytes} bytes`, (t) => {
    const packet = new Uint8Array(12).fill(0xee);
    esp.writeTrailer(packet, 0, bytes);
    const encrypted = esp.encryptedBytes(bytes);
    t.is(Buffer.from(packet.subarray(bytes, encrypted)).toString("hex"), trailer);
    t.is(packet[encrypted], 0xee);
    t.is(esp.innerBytesOf(packet, 0, encrypted), bytes);
  });
}

test("the encrypted part is aligned, and as short as can be; the largest inner datagram fits, one more byte does not", (t) => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: MOST }), (bytes) => {
      const encrypted = esp.encryptedBytes(bytes);
      t.is(encrypted % 4, 0);
      t.true(encrypted >= bytes + 2 && encrypted < bytes + 6);
      const whole = esp.ESP_BYTES + encrypted + esp.ICV_BYTES;
      t.true(esp.mostInnerBytes(whole) >= bytes);
      t.is(esp.encryptedBytes(esp.mostInnerBytes(whole)), encrypted);
      t.true(esp.encryptedBytes(esp.mostInnerBytes(whole) + 1) > encrypted);
    }),
  );
});

test("an MTU of 1500 leaves containers 1408: as RFC 4303, 3948 and 7348 add up", (t) => {
  const udpPayload = 1500 - 20 - 8;
  t.is(esp.mostInnerBytes(udpPayload) - 8 - 8 - 14, 1408);
});

test("what is too short, not aligned, of a reserved SPI or a marker of IKE is no ESP", (t) => {
  const bytes = new Uint8Array(64);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, 256);
  t.true(esp.isEsp(view, 0, 36));
  t.false(esp.isEsp(view, 0, 32));
  t.false(esp.isEsp(view, 0, 38));
  t.false(esp.isEsp(view, 0, 1));
  for (const spi of [0, 1, 255]) {
    view.setUint32(0, spi);
    t.false(esp.isEsp(view, 0, 36));
  }
});

test("a trailer of another next header, more padding than there is, or other padding is refused", (t) => {
  const trailerOf = (hex: string): number => {
    const bytes = Buffer.from(hex, "hex");
    return esp.innerBytesOf(bytes, 0, bytes.length);
  };
  t.is(trailerOf("aaaa" + "0011"), 2);
  t.is(trailerOf("aaaa" + "0004"), -1);
  t.is(trailerOf("0102" + "0311"), -1);
  t.is(trailerOf("0102" + "ff11"), -1);
  t.is(trailerOf("0102" + "0211"), 0);
  t.is(trailerOf("0202" + "0211"), -1);
});
