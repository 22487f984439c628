// A transaction of etcd and its answer as protobuf (etcd's rpc.proto and kv.proto; protobuf.dev, "Encoding").

export interface EtcdRow {
  key: string;
  value: string;
  createRevision: number;
  modRevision: number;
  /** "0": none. */
  lease: string;
}

/** What a transaction compares: 0 stands for a key that is not there. */
type EtcdCompare = { key: string } & ({ createRevision: number } | { modRevision: number });
/** `end`: all keys up to it are removed, without it. */
export type EtcdWrite = { put: string; value: string; lease?: string } | { remove: string; end?: string };

export interface EtcdTxn {
  compare: readonly EtcdCompare[];
  /** Done when all compares hold. */
  writes: readonly EtcdWrite[];
  /** Keys that are read when one of the compares does not hold. */
  otherwise: readonly string[];
}

export interface EtcdTxnResult {
  succeeded: boolean;
  /** Etcd's revision: that of the writes when it succeeded. */
  revision: number;
  /** What there is of the keys of `otherwise`. */
  rows: EtcdRow[];
}

const WireType = { Varint: 0, Fixed64: 1, Bytes: 2, Fixed32: 5 } as const;

/** Numbers of the fields. */
const TxnRequest = { Compare: 1, Success: 2, Failure: 3 } as const;
const Compare = { Target: 2, Key: 3, CreateRevision: 5, ModRevision: 6 } as const;
const CompareTarget = { Create: 1, Mod: 2 } as const;
const RequestOp = { Range: 1, Put: 2, DeleteRange: 3 } as const;
/** A range and a deletion have the same. */
const Keys = { Key: 1, RangeEnd: 2 } as const;
const PutRequest = { Key: 1, Value: 2, Lease: 3 } as const;
const TxnResponse = { Header: 1, Succeeded: 2, Responses: 3 } as const;
const ResponseHeader = { Revision: 3 } as const;
const ResponseOp = { Range: 1 } as const;
const RangeResponse = { Rows: 2 } as const;
const KeyValue = { Key: 1, CreateRevision: 2, ModRevision: 3, Value: 5, Lease: 6 } as const;

export function encodeTxn({ compare, writes, otherwise }: EtcdTxn): Uint8Array {
  const message = new MessageWriter();
  for (const one of compare) message.message(TxnRequest.Compare, (into) => writeCompare(into, one));
  for (const write of writes) message.message(TxnRequest.Success, (into) => writeOperation(into, write));
  for (const key of otherwise) {
    message.message(TxnRequest.Failure, (operation) =>
      operation.message(RequestOp.Range, (range) => range.text(Keys.Key, key)),
    );
  }
  return message.bytes;
}

function writeCompare(into: MessageWriter, compare: EtcdCompare): void {
  const isCreate = "createRevision" in compare;
  into.number(Compare.Target, isCreate ? CompareTarget.Create : CompareTarget.Mod);
  into.text(Compare.Key, compare.key);
  if (isCreate) into.number(Compare.CreateRevision, compare.createRevision);
  else into.number(Compare.ModRevision, compare.modRevision);
}

function writeOperation(into: MessageWriter, write: EtcdWrite): void {
  if ("remove" in write) {
    const { remove, end } = write;
    into.message(RequestOp.DeleteRange, (range) => {
      range.text(Keys.Key, remove);
      if (end !== undefined) range.text(Keys.RangeEnd, end);
    });
    return;
  }
  const { put, value, lease } = write;
  into.message(RequestOp.Put, (request) => {
    request.text(PutRequest.Key, put);
    request.text(PutRequest.Value, value);
    if (lease !== undefined) request.number(PutRequest.Lease, BigInt(lease));
  });
}

/** Throws RangeError when the message is cut or is none. */
export function decodeTxnResult(message: Buffer): EtcdTxnResult {
  const result: EtcdTxnResult = { succeeded: false, revision: 0, rows: [] };
  for (const { number, value } of fieldsOf(message)) {
    if (number === TxnResponse.Succeeded) result.succeeded = value === 1n;
    else if (number === TxnResponse.Header) result.revision = revisionIn(bytesOf(value));
    else if (number === TxnResponse.Responses) result.rows.push(...rowsIn(bytesOf(value)));
  }
  return result;
}

function revisionIn(header: Buffer): number {
  for (const { number, value } of fieldsOf(header)) if (number === ResponseHeader.Revision) return Number(value);
  return 0;
}

function rowsIn(operation: Buffer): EtcdRow[] {
  const rows: EtcdRow[] = [];
  for (const response of fieldsOf(operation)) {
    if (response.number !== ResponseOp.Range) continue;
    for (const { number, value } of fieldsOf(bytesOf(response.value)))
      if (number === RangeResponse.Rows) rows.push(rowIn(bytesOf(value)));
  }
  return rows;
}

function rowIn(message: Buffer): EtcdRow {
  const row: EtcdRow = { key: "", value: "", createRevision: 0, modRevision: 0, lease: "0" };
  for (const { number, value } of fieldsOf(message)) {
    if (number === KeyValue.Key) row.key = bytesOf(value).toString();
    else if (number === KeyValue.Value) row.value = bytesOf(value).toString();
    else if (number === KeyValue.CreateRevision) row.createRevision = Number(value);
    else if (number === KeyValue.ModRevision) row.modRevision = Number(value);
    else if (number === KeyValue.Lease) row.lease = String(value);
  }
  return row;
}

interface Field {
  number: number;
  value: bigint | Buffer;
}

/** Fields of 4 and 8 bytes are skipped: none of these messages has one. */
function* fieldsOf(message: Buffer): Generator<Field> {
  let at = 0;
  const varint = (): bigint => {
    let value = 0n;
    for (let shift = 0n; ; shift += 7n) {
      const byte = message.readUInt8(at++);
      value |= BigInt(byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
  };
  while (at < message.length) {
    const tag = Number(varint());
    const [number, type] = [tag >>> 3, tag & 7];
    if (type === WireType.Varint) {
      yield { number, value: varint() };
    } else if (type === WireType.Bytes) {
      const end = Number(varint()) + at;
      if (end > message.length) throw new RangeError("the message is cut");
      yield { number, value: message.subarray(at, end) };
      at = end;
    } else if (type === WireType.Fixed64) at += 8;
    else if (type === WireType.Fixed32) at += 4;
    else throw new RangeError(`no field has the type ${type}`);
  }
}

function bytesOf(value: bigint | Buffer): Buffer {
  if (typeof value === "bigint") throw new RangeError("a number is where a message or text should be");
  return value;
}

class MessageWriter {
  readonly #parts: Uint8Array[] = [];

  get bytes(): Buffer {
    return Buffer.concat(this.#parts);
  }

  number(field: number, value: number | bigint): void {
    this.#parts.push(varint((field << 3) | WireType.Varint), varint(value));
  }

  text(field: number, text: string): void {
    this.#lengthThen(field, Buffer.from(text));
  }

  message(field: number, write: (into: MessageWriter) => void): void {
    const inner = new MessageWriter();
    write(inner);
    this.#lengthThen(field, inner.bytes);
  }

  #lengthThen(field: number, bytes: Uint8Array): void {
    this.#parts.push(varint((field << 3) | WireType.Bytes), varint(bytes.length), bytes);
  }
}

function varint(value: number | bigint): Uint8Array {
  if (value < 0x80) return Uint8Array.of(Number(value));
  const bytes: number[] = [];
  let rest = BigInt(value);
  for (; rest >= 0x80n; rest >>= 7n) bytes.push(Number(rest & 0x7fn) | 0x80);
  bytes.push(Number(rest));
  return Uint8Array.from(bytes);
}
