// The beats of one session, as they come up one request: a line each, with the revision that the node has in force.
import type { Readable } from "node:stream";
import { finished } from "node:stream/promises";
import { UserError } from "../lib/errors.ts";

const LINE = /^\d{1,16}$/;
const MAX_LINE_CHARS = 17;

/** Calls for the newest beat of each piece that comes, until the request ends. Throws UserError 400, and what `beat` throws. */
export async function takeBeats(lines: Readable, beat: (applied: number) => void): Promise<void> {
  let failure: unknown;
  let rest = "";
  lines.on("data", (piece: Buffer) => {
    const texts = (rest + piece.toString("latin1")).split("\n");
    rest = texts.pop()!;
    const wrong = rest.length > MAX_LINE_CHARS ? rest : texts.find((text) => !LINE.test(text));
    try {
      if (wrong !== undefined)
        throw new UserError(400, `a beat is the number of a revision, and no '${wrong.slice(0, 40)}'`);
      if (texts.length > 0) beat(Number(texts.at(-1)));
    } catch (error) {
      failure = error;
      lines.destroy();
    }
  });
  await finished(lines).catch(() => {}); // a node that goes is found by its silence
  if (failure !== undefined) throw failure;
}
