// Known answers, tried before a node takes part in encrypted networks: an OpenSSL that computes something else, or a binding that hands it
// other bytes, must not carry a packet.
import { PlatformError } from "../lib/errors.ts";
import type { PacketMemory } from "../packet/memory.ts";
import { type AeadEngine, TAG_BYTES } from "./aead.ts";

const SPI = 0x4a2cbfe3;
const SEQUENCE = 2;
const IV_HIGH = 0x01020304;
const IV_LOW = 0x05060708;
// draft-mcgrew-gcm-test-01, the packet with SPI 4a2cbfe3.
const KEY = "abbccddef00112233445566778899aababbccddef00112233445566778899aab11223344";
const PLAIN =
  "4500003069a6400080062690c0a801029389155e0a9e008b2dc57ee0000000007002400020bf0000020405b40101040201020201";
const SEALED =
  "ff425c9b724599df7a3bcd510194e00d6a78107f1b0b1cbf06efae9d65a5d763748a637985771d347f0545659f14e99def842d8e" +
  "b335f4eecfdbf831824b4c4915956c96";

/** Throws PlatformError where what is sealed is not what the standard says, or what is forged is opened. */
export function checkAead(engine: AeadEngine): void {
  const { memory } = engine;
  const plain = Buffer.from(PLAIN, "hex");
  const at = memory.alloc(plain.length + TAG_BYTES);
  const key = Buffer.from(KEY, "hex");
  memory.u8.set(plain, at);
  const sealing = engine.sealing(key);
  sealing.seal(SPI, SEQUENCE, IV_HIGH, IV_LOW, at, plain.length);
  sealing.close();
  const isSealed = hexAt(memory, at, plain.length + TAG_BYTES) === SEALED;
  const opening = engine.opening(key);
  const open = (): boolean => opening.open(SPI, SEQUENCE, IV_HIGH, IV_LOW, at, plain.length);
  const isOpened = open() && hexAt(memory, at, plain.length) === PLAIN;
  memory.u8.set(Buffer.from(SEALED, "hex"), at);
  memory.u8[at + plain.length + TAG_BYTES - 1]! ^= 1;
  const isForgedOpened = open();
  opening.close();
  if (isSealed && isOpened && !isForgedOpened) return;
  throw new PlatformError(
    "AES-256-GCM of this OpenSSL has other answers than the standard's",
    "openssl version; node -p process.versions.openssl",
  );
}

function hexAt({ u8 }: PacketMemory, at: number, bytes: number): string {
  return Buffer.from(u8.subarray(at, at + bytes)).toString("hex");
}
