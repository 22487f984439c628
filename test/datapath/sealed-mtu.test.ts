import test from "ava";
import fc from "fast-check";
import { OVERHEAD_BYTES } from "../../src/datapath/encapsulate.ts";
import { sealedMtu } from "../../src/datapath/sealed-way.ts";
import { ESP_BYTES, encryptedBytes, ICV_BYTES } from "../../src/packet/esp.ts";

/** Outer IPv4 and UDP, ESP around inner UDP, VXLAN and Ethernet: RFC 4303 section 2, RFC 3948 section 2.1, RFC 7348 section 5. */
const underlayBytes = (packet: number) => 20 + 8 + ESP_BYTES + encryptedBytes(8 + 8 + 14 + packet) + ICV_BYTES;

for (const [underlay, sealed] of [
  [1500, 1408],
  [9000, 8908],
] as const) {
  test(`an underlay of ${underlay} bytes carries packets of ${sealed} sealed`, (t) => {
    t.is(sealedMtu(underlay - OVERHEAD_BYTES), sealed);
  });
}

test("the largest packet fits the underlay once it is sealed, and one byte more does not", (t) => {
  fc.assert(
    fc.property(fc.integer({ min: 576, max: 65_535 }), (underlay) => {
      const mtu = sealedMtu(underlay - OVERHEAD_BYTES);
      return underlayBytes(mtu) <= underlay && underlayBytes(mtu + 1) > underlay;
    }),
  );
  t.pass();
});
