// DNS over TCP: each message after two bytes of its length, RFC 1035 section 4.2.2, however the stream was cut.

const LENGTH_BYTES = 2;

export class TcpFrames {
  // BOUNDED: by one message of 64 KiB and one read of the socket, when the caller takes every message after each push.
  #received: Buffer = Buffer.alloc(0);

  static frame(message: Buffer): Buffer {
    const framed = Buffer.allocUnsafe(LENGTH_BYTES + message.length);
    framed.writeUInt16BE(message.length, 0);
    message.copy(framed, LENGTH_BYTES);
    return framed;
  }

  push(chunk: Buffer): void {
    this.#received = this.#received.length === 0 ? chunk : Buffer.concat([this.#received, chunk]);
  }

  /** The next whole message; undefined until more is pushed. */
  next(): Buffer | undefined {
    if (this.#received.length < LENGTH_BYTES) return undefined;
    const end = LENGTH_BYTES + this.#received.readUInt16BE(0);
    if (this.#received.length < end) return undefined;
    const message = this.#received.subarray(LENGTH_BYTES, end);
    this.#received = this.#received.subarray(end);
    return message;
  }
}
