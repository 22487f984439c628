// What a container printed. Without a terminal the engine sends frames: a header of stream and length, then the bytes.
import { type Readable, Transform, type TransformCallback } from "node:stream";
import { text } from "node:stream/consumers";
import type { LogQuery } from "../cluster/protocol.ts";
import type { Container, DockerEngine } from "./docker-engine.ts";
import { LAST_LINES } from "./exit.ts";

/** A byte of stream, three of nothing, four of length. */
const HEADER_BYTES = 8;

/** Both streams of the container as one. Throws DockerError. */
export async function readLog(
  engine: DockerEngine,
  { id, hasTerminal }: Pick<Container, "id" | "hasTerminal">,
  { follow, tail, since }: LogQuery,
): Promise<Readable> {
  const query = {
    follow,
    stdout: true,
    stderr: true,
    ...(tail === null ? {} : { tail }),
    ...(since === null ? {} : { since: (since / 1000).toFixed(3) }),
  };
  const frames = await engine.call("docker logs", () => streamOf(engine, id, query));
  if (hasTerminal) return frames;
  const content = new FrameContent();
  frames.on("error", (error) => content.destroy(error));
  content.on("close", () => frames.destroy());
  return frames.pipe(content);
}

/** The log as it comes: dockerode's own call would keep a log that is not followed whole in memory, of any length. */
function streamOf({ docker }: DockerEngine, id: string, query: object): Promise<Readable> {
  const statusCodes = { 200: true, 404: "no such container", 500: "server error" };
  const request = { path: `/containers/${id}/logs?`, method: "GET", isStream: true, statusCodes, options: query };
  return new Promise((resolve, reject) => {
    docker.modem.dial(request, (error: unknown, stream: unknown) => {
      if (error) reject(error);
      else resolve(stream as Readable);
    });
  });
}

/** The last lines that the container printed, which may say why it ended. */
export async function tailOf(engine: DockerEngine, container: Container): Promise<string> {
  return engine.call("docker logs", async (late) => {
    const log = await readLog(engine, container, { follow: false, tail: LAST_LINES, since: null });
    late.addEventListener("abort", () => log.destroy());
    return text(log);
  });
}

/** Frames in, their bytes out. */
export class FrameContent extends Transform {
  /** The part of a header that has arrived; empty between headers. */
  #header = Buffer.alloc(0);
  /** Bytes of the arriving frame that are still missing. */
  #left = 0;

  override _transform(chunk: Buffer, _: BufferEncoding, done: TransformCallback): void {
    for (let rest = chunk; rest.length > 0; ) {
      if (this.#left === 0) {
        const missing = HEADER_BYTES - this.#header.length;
        this.#header = Buffer.concat([this.#header, rest.subarray(0, missing)]);
        rest = rest.subarray(missing);
        if (this.#header.length < HEADER_BYTES) break;
        this.#left = this.#header.readUInt32BE(4);
        this.#header = Buffer.alloc(0);
      }
      const content = rest.subarray(0, this.#left);
      this.#left -= content.length;
      rest = rest.subarray(content.length);
      if (content.length > 0) this.push(content);
    }
    done();
  }
}
