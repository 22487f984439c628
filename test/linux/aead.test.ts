// AES-256-GCM in packet memory against the standard's vectors, and against node:crypto.
import { createCipheriv, createDecipheriv } from "node:crypto";
import test from "ava";
import fc from "fast-check";
import { PlatformError } from "../../src/lib/errors.ts";
import { AeadEngine, KEY_BYTES, TAG_BYTES } from "../../src/linux/aead.ts";
import { checkAead } from "../../src/linux/aead-check.ts";
import { PacketMemory } from "../../src/packet/memory.ts";

const MEMORY_BYTES = 1 << 20;
const MOST = 2000;

interface Vector {
  /** Key and salt. */
  key: string;
  iv: string;
  aad: string;
  plain: string;
  /** With the tag. */
  sealed: string;
}

// draft-mcgrew-gcm-test-01: those with keys of 256 bits.
const ESP_VECTORS: Vector[] = [
  {
    key: "abbccddef00112233445566778899aababbccddef00112233445566778899aab11223344",
    iv: "0102030405060708",
    aad: "4a2cbfe300000002",
    plain: "4500003069a6400080062690c0a801029389155e0a9e008b2dc57ee0000000007002400020bf0000020405b40101040201020201",
    sealed:
      "ff425c9b724599df7a3bcd510194e00d6a78107f1b0b1cbf06efae9d65a5d763748a637985771d347f0545659f14e99def842d8e" +
      "b335f4eecfdbf831824b4c4915956c96",
  },
  {
    key: "abbccddef00112233445566778899aababbccddef00112233445566778899aab73616c74",
    iv: "616e640169766563",
    aad: "17405e67156f3126dd0db99b",
    plain: "45080028732c00004006e9f90a0106120a01038f06b88023dd6bafbecb71260250101f646d540001",
    sealed:
      "f2d69ecdbd5a0d5b8d5ef38bad4da58d1f278fde98ef67549d524a3018d9a57ff4d3a31ce673119e451626c2415771e3b7eebca614c89b35",
  },
  {
    key: "abbccddef00112233445566778899aababbccddef00112233445566778899aab73616c74",
    iv: "616e640169766563",
    aad: "17405e67156f3126dd0db99b",
    plain:
      "636973636f0172756c657301746865016e6574776501646566696e6501746865746563686e6f6c6f67696573017468617477696c6c01646566696e65746f6d6f72726f77" +
      "01020201",
    sealed:
      "d4b7ed86a1777f2ea13d6973d324c69e7b43f826fb56831226508bebd2dceb18d0a6df10e5487df074113e14c641024e3e6773d91a62ee429b043a10e3efe6b012a49363" +
      "412364f8c0cac587f249e56b11e24f30e44ccc76",
  },
  {
    key: "6c6567616c697a656d6172696a75616e61616e64646f69746265666f726569617475726e",
    iv: "333021696765746d",
    aad: "796b6963ffffffffffffffff",
    plain: "45000030da3a00008001df3bc0a80005c0a800010800c6cd020007006162636465666768696a6b6c6d6e6f707172737401020201",
    sealed:
      "f97ab2aa356d8edce17644ac8c78e25dd24dedbb29ebf1b64a274b39b49c3a864cd3d78ca4ae68a32b42458fb57dbe821dcc63b9" +
      "d0937ba2945f669368661a329fb4c053",
  },
];

// NIST's gcmEncryptExtIV256.rsp.
const NIST_VECTORS: Vector[] = [
  {
    key: "31bdadd96698c204aa9ce1448ea94ae1fb4a9a0b3c9d773b51bb1822666b8f220d18e06c",
    iv: "7c725ac9e362e1ce",
    aad: "",
    plain: "2db5168e932556f8089a0622981d017d",
    sealed: "fa4362189661d163fcd6a56d8bf0405ad636ac1bbedd5cc3ee727dc2ab4a9489",
  },
  {
    key: "e5a0eb92cc2b064e1bc80891faf1fab5e9a17a9c3a984e25416720e30e6c2b214742357c",
    iv: "335913153ff0eb0f",
    aad: "",
    plain: "8499893e16b0ba8b007d54665a",
    sealed: "eb8e6175f1fe38eb1acf95fd5188a8b74bb74fda553e91020a23deed45",
  },
  {
    key: "37f39137416bafde6f75022a7a527cc593b6000a83ff51ec04871a0ff5360e4ea291484c",
    iv: "3de8bec6b47f525f",
    aad: "",
    plain: "fafd94cede8b5a0730394bec68a8e77dba288d6ccaa8e1563a81d6e7ccc7fc97",
    sealed: "44dc868006b21d49284016565ffb3979cc4271d967628bf7cdaf86db888e92e501a2b578aa2f41ec6379a44a31cc019c",
  },
  {
    key: "595f259c55abe00ae07535ca5d9b09d6efb9f7e9abb64605c337acbd6b14fc7e92f25807",
    iv: "1d79af3e63672285",
    aad: "",
    plain: "a6fee33eb110a2d769bbc52b0f36969c287874f665681477a25fc4c48015c541fbe2394133ba490a34ee2dd67b898177849a91",
    sealed:
      "bbca4a9e09ae9690c0f6f8d405e53dccd666aa9c5fa13c8758bc30abe1ddd1bcce0d36a1eaaaaffef20cd3c5970b9673f8a65c" +
      "26ccecb9976fd6ac9c2c0f372c52c821",
  },
];

class Bed {
  readonly memory = new PacketMemory(MEMORY_BYTES);
  readonly engine = new AeadEngine(this.memory);
  readonly at = this.memory.alloc(MOST + TAG_BYTES);

  put(bytes: Uint8Array): void {
    this.memory.u8.set(bytes, this.at);
  }

  get(bytes: number): string {
    return Buffer.from(this.memory.u8.subarray(this.at, this.at + bytes)).toString("hex");
  }
}

const word = (bytes: Uint8Array, at: number): number =>
  at + 4 <= bytes.length ? Buffer.from(bytes).readInt32BE(at) : 0;

for (const [name, vectors] of [
  ["draft-mcgrew-gcm-test", ESP_VECTORS],
  ["NIST's GCM vectors", NIST_VECTORS],
] as const) {
  test(`${name}: sealed as it says, and opened again`, (t) => {
    const bed = new Bed();
    const { engine, memory, at } = bed;
    for (const { key, iv, aad, plain, sealed } of vectors) {
      const [keyBytes, ivBytes, aadBytes, bytes] = [key, iv, aad, plain].map((hex) => Buffer.from(hex, "hex"));
      memory.u8.set(aadBytes!, engine.aad);
      const words = [word(aadBytes!, 0), word(aadBytes!, 4), word(ivBytes!, 0), word(ivBytes!, 4)] as const;
      bed.put(bytes!);
      engine.sealing(keyBytes!, aadBytes!.length).seal(...words, at, bytes!.length);
      t.is(bed.get(bytes!.length + TAG_BYTES), sealed);
      t.true(engine.opening(keyBytes!, aadBytes!.length).open(...words, at, bytes!.length));
      t.is(bed.get(bytes!.length), plain);
    }
  });
}

test("node:crypto opens what is sealed, and what it seals is opened", (t) => {
  const bed = new Bed();
  const { engine, at } = bed;
  const bytes = (length: number) => fc.uint8Array({ minLength: length, maxLength: length });
  const words = fc.integer();
  fc.assert(
    fc.property(
      bytes(KEY_BYTES),
      fc.uint8Array({ maxLength: MOST }),
      fc.tuple(words, words, words, words),
      (key, plain, [spi, sequence, ivHigh, ivLow]) => {
        const nonce = Buffer.alloc(12);
        nonce.set(key.subarray(32));
        nonce.writeInt32BE(ivHigh, 4);
        nonce.writeInt32BE(ivLow, 8);
        const aad = Buffer.alloc(8);
        aad.writeInt32BE(spi);
        aad.writeInt32BE(sequence, 4);
        const cipher = createCipheriv("aes-256-gcm", key.subarray(0, 32), nonce).setAAD(aad);
        const theirs = Buffer.concat([cipher.update(plain), cipher.final(), cipher.getAuthTag()]);
        bed.put(plain);
        const sealing = engine.sealing(key);
        sealing.seal(spi, sequence, ivHigh, ivLow, at, plain.length);
        sealing.close();
        t.is(bed.get(theirs.length), theirs.toString("hex"));
        const decipher = createDecipheriv("aes-256-gcm", key.subarray(0, 32), nonce).setAAD(aad);
        decipher.setAuthTag(theirs.subarray(plain.length));
        t.deepEqual(
          Buffer.concat([decipher.update(theirs.subarray(0, plain.length)), decipher.final()]),
          Buffer.from(plain),
        );
        const opening = engine.opening(key);
        t.true(opening.open(spi, sequence, ivHigh, ivLow, at, plain.length));
        opening.close();
        t.is(bed.get(plain.length), Buffer.from(plain).toString("hex"));
      },
    ),
    { numRuns: 200 },
  );
});

test("a bit that is another anywhere, in what is sealed, authenticated or the nonce, is found", (t) => {
  const bed = new Bed();
  const { engine, memory, at } = bed;
  const key = Buffer.alloc(KEY_BYTES, 7);
  const plain = Buffer.from("a datagram of a container");
  bed.put(plain);
  engine.sealing(key).seal(300, 1, 0, 1, at, plain.length);
  const sealed = Buffer.from(memory.u8.subarray(at, at + plain.length + TAG_BYTES));
  const opening = engine.opening(key);
  for (let bit = 0; bit < 8 * sealed.length; bit++) {
    const forged = Buffer.from(sealed);
    forged[bit >> 3]! ^= 1 << (bit & 7);
    bed.put(forged);
    t.false(opening.open(300, 1, 0, 1, at, plain.length), `bit ${bit}`);
  }
  const words = [300, 1, 0, 1] as const;
  for (let i = 0; i < words.length; i++) {
    bed.put(sealed);
    const forged = words.map((value, j) => (i === j ? value ^ 0x10000 : value)) as [number, number, number, number];
    t.false(opening.open(...forged, at, plain.length));
  }
  bed.put(sealed);
  t.true(opening.open(...words, at, plain.length));
});

test("a key that was closed opens nothing, and seals nothing", (t) => {
  const { engine, at } = new Bed();
  const [sealing, opening] = [engine.sealing(Buffer.alloc(KEY_BYTES)), engine.opening(Buffer.alloc(KEY_BYTES))];
  sealing.close();
  opening.close();
  sealing.close();
  t.throws(() => sealing.seal(300, 1, 0, 1, at, 20));
  t.false(opening.open(300, 1, 0, 1, at, 20));
});

test("a key of another length is refused", (t) => {
  const { engine } = new Bed();
  t.throws(() => engine.sealing(Buffer.alloc(32)), { message: "a key has 36 bytes, and not 32" });
});

test("the known answers of the start pass, and find a cipher that is another", (t) => {
  const { engine } = new Bed();
  t.notThrows(() => checkAead(engine));
  const { sealing } = engine;
  engine.sealing = (key) => {
    const other = Buffer.from(key);
    other[0]! ^= 1;
    return sealing.call(engine, other);
  };
  t.throws(() => checkAead(engine), { instanceOf: PlatformError, message: /other answers than the standard's/ });
});
