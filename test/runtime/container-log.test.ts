// Frames of the engine's log, however they arrive.
import { Readable } from "node:stream";
import { text } from "node:stream/consumers";
import test from "ava";
import { FrameContent } from "../../src/runtime/container-log.ts";

function frame(stream: number, content: string): Buffer {
  const header = Buffer.alloc(8);
  header.writeUInt8(stream, 0);
  header.writeUInt32BE(Buffer.byteLength(content), 4);
  return Buffer.concat([header, Buffer.from(content)]);
}

const FRAMES = Buffer.concat([frame(1, "one\n"), frame(2, ""), frame(2, "two\n"), frame(1, "three")]);

for (const size of [1, 3, 7, 8, 9, 13, FRAMES.length]) {
  test(`both streams come out in order when the bytes arrive ${size} at a time`, async (t) => {
    const parts: Buffer[] = [];
    for (let at = 0; at < FRAMES.length; at += size) parts.push(FRAMES.subarray(at, at + size));
    t.is(await text(Readable.from(parts).pipe(new FrameContent())), "one\ntwo\nthree");
  });
}
