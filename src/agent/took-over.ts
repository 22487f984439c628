// When this manager took over by hand, and with which revision: the leader before reads it here, to say what was not copied.
import { z } from "zod";
import { textIfThere } from "../lib/exists.ts";
import { replaceFile } from "../lib/replace-file.ts";

const TookOver = z.object({ epoch: z.int(), revision: z.int() });
type TookOver = z.infer<typeof TookOver>;

export class TookOverFile {
  readonly #path: string;

  constructor(path: string) {
    this.#path = path;
  }

  async read(): Promise<TookOver | null> {
    const text = await textIfThere(this.#path);
    return text === undefined ? null : TookOver.parse(JSON.parse(text));
  }

  write(taken: TookOver): Promise<void> {
    return replaceFile(this.#path, `${JSON.stringify(taken)}\n`);
  }
}
