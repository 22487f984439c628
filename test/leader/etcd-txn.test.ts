// The protobuf of transactions: what protoc makes of them, and answers that are cut.
import test from "ava";
import { decodeTxnResult, encodeTxn } from "../../src/leader/etcd-txn.ts";

const hex = (text: string) => Buffer.from(text.replaceAll(/\s/g, ""), "hex");

test("a transaction is written as rpc.proto has it", (t) => {
  const message = encodeTxn({
    compare: [
      { key: "l", createRevision: 300 },
      { key: "h", modRevision: 0 },
    ],
    writes: [
      { put: "k", value: "v", lease: "4611686018427387904" },
      { remove: "a", end: "b" },
    ],
    otherwise: ["h"],
  });
  t.deepEqual(
    Buffer.from(message),
    hex(`
      0a 08  10 01  1a 01 6c  28 ac 02
      0a 07  10 02  1a 01 68  30 00
      12 12  12 10  0a 01 6b  12 01 76  18 80 80 80 80 80 80 80 80 40
      12 08  1a 06  0a 01 61  12 01 62
      1a 05  0a 03  0a 01 68
    `),
  );
});

// Header {cluster 2^63, revision 300, term 5}, succeeded; then a row, an unknown field of each type, and an empty range.
const ANSWER = hex(`
  0a 10  08 80 80 80 80 80 80 80 80 80 01  18 ac 02  20 05
  10 01
  1a 18  0a 16  12 10  0a 01 6b  10 02  18 03  20 01  2a 02 c3 bc  30 80 01  18 01  78 07
  7d 01 02 03 04
  79 01 02 03 04 05 06 07 08
  1a 02  0a 00
`);

test("its answer is read, whatever fields a later etcd adds", (t) => {
  t.deepEqual(decodeTxnResult(ANSWER), {
    succeeded: true,
    revision: 300,
    rows: [{ key: "k", value: "ü", createRevision: 2, modRevision: 3, lease: "128" }],
  });
});

test("an answer that is cut is either refused or ends between two fields", (t) => {
  for (let length = 0; length < ANSWER.length; length++) {
    const cut = ANSWER.subarray(0, length);
    try {
      t.true(decodeTxnResult(cut).rows.length <= 1);
    } catch (error) {
      t.true(error instanceof RangeError, `${length}: ${error}`);
    }
  }
  t.throws(() => decodeTxnResult(ANSWER.subarray(0, 30)), { instanceOf: RangeError });
  t.throws(() => decodeTxnResult(hex("0a 05 08")), { message: "the message is cut" });
  t.throws(() => decodeTxnResult(hex("0b")), { message: "no field has the type 3" });
});
