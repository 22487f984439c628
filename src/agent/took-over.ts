// When this manager took over by hand, and with which revision: the leader before reads it here, to say what was not copied.
import { z } from "zod";
import { messageOf } from "../lib/errors.ts";
import { textIfThere } from "../lib/exists.ts";
import type { Log } from "../lib/log.ts";
import { damagedPath, replaceFile, setAside } from "../lib/replace-file.ts";

const TookOver = z.object({ epoch: z.int(), revision: z.int() });
type TookOver = z.infer<typeof TookOver>;

export class TookOverFile {
  readonly #path: string;
  readonly #log: Log;

  constructor(path: string, log: Log) {
    this.#path = path;
    this.#log = log;
  }

  /** null: it never did, or the file is damaged: then the leader before exports all that it has, for it may not have been copied. */
  async read(): Promise<TookOver | null> {
    const text = await textIfThere(this.#path);
    if (text === undefined) return null;
    try {
      return TookOver.parse(JSON.parse(text));
    } catch (error) {
      const path = await setAside(this.#path).catch(() => damagedPath(this.#path)); // another call has done it
      this.#log.warn("when this manager took over is not known any more", { path, reason: messageOf(error) });
      return null;
    }
  }

  write(taken: TookOver): Promise<void> {
    return replaceFile(this.#path, `${JSON.stringify(taken)}\n`);
  }
}
