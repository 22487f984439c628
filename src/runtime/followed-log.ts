// A task's log over all of its containers: after the log of one comes the log of the next.
import { PassThrough, type Readable } from "node:stream";
import { finished } from "node:stream/promises";
import type { LogQuery } from "../cluster/protocol.ts";
import { type Clock, delay } from "../lib/clock.ts";
import { messageOf } from "../lib/errors.ts";
import type { Log } from "../lib/log.ts";
import { readLog } from "./container-log.ts";
import { type Container, type DockerEngine, DockerError } from "./docker-engine.ts";

const LOOK_MS = 200;

interface FollowedLogOptions {
  engine: DockerEngine;
  clock: Clock;
  log: Log;
  /** The task's container now, running or not; undefined: there is none. */
  container(): Promise<Container | undefined>;
  /** Whether the node still has the task. */
  isWanted(): boolean;
}

/** The container whose log was read last. */
interface Read {
  id: string;
  /** Wall-clock milliseconds. */
  until: number;
}

/** The log as a stream that ends when its reader closes it or the task is gone. */
export function followLog(options: FollowedLogOptions, query: LogQuery): Readable {
  const out = new PassThrough();
  follow(options, query, out).then(
    () => out.end(),
    (error: Error) => out.destroy(error),
  );
  return out;
}

async function follow(options: FollowedLogOptions, first: LogQuery, out: PassThrough): Promise<void> {
  const { clock, log, isWanted } = options;
  let last: Read | undefined;
  while (!out.destroyed) {
    try {
      last = (await readNext(options, first, last, out)) ?? last;
    } catch (error) {
      // It was removed just now, or the engine is away: both pass.
      if (!(error instanceof DockerError)) throw error;
      log.debug("a log that is followed cannot be read", { reason: messageOf(error) });
    }
    if (!isWanted()) return;
    await delay(clock, LOOK_MS);
  }
}

/** Reads to the end of what the container prints. undefined: it had printed nothing new. */
async function readNext(
  { engine, clock, container }: FollowedLogOptions,
  first: LogQuery,
  last: Read | undefined,
  out: PassThrough,
): Promise<Read | undefined> {
  const found = await container();
  if (found === undefined || (found.id === last?.id && !found.isRunning)) return undefined;
  const again = { follow: true, tail: null, since: found.id === last?.id ? last.until : null };
  const frames = await readLog(engine, found, last === undefined ? first : again);
  const close = () => frames.destroy();
  out.once("close", close);
  if (out.destroyed) close();
  try {
    // Not pipeline(): it would end `out` with the connection to an engine that goes away.
    frames.pipe(out, { end: false });
    await finished(frames, { writable: false });
  } catch (error) {
    if (!out.destroyed) throw new DockerError("docker logs", error);
  } finally {
    out.off("close", close);
  }
  return { id: found.id, until: clock.now() };
}
