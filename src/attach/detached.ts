// Containers that a person took off their networks though their labels ask for one. They stay off until they are started
// again. The agent may be restarted meanwhile, so a file keeps them: container id to the start of the run, wall-clock
// milliseconds.
import { readFile } from "node:fs/promises";
import { z } from "zod";
import { messageOf } from "../lib/errors.ts";
import type { Log } from "../lib/log.ts";
import { replaceFile } from "../lib/replace-file.ts";
import type { Container } from "../runtime/docker-engine.ts";

const Content = z.record(z.string(), z.number());

export class DetachedContainers {
  readonly #path: string;
  // BOUNDED: by the containers that run, see keepOnly(); keyed by container id.
  readonly #startedAt: Map<string, number>;

  private constructor(path: string, startedAt: Map<string, number>) {
    this.#path = path;
    this.#startedAt = startedAt;
  }

  /** A file that cannot be read is logged, and counts as empty. */
  static async open(path: string, log: Log): Promise<DetachedContainers> {
    try {
      const content = Content.parse(JSON.parse(await readFile(path, "utf8")));
      return new DetachedContainers(path, new Map(Object.entries(content)));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ENOENT")
        log.warn("containers that were detached by hand are not known any more", { path, reason: messageOf(error) });
      return new DetachedContainers(path, new Map());
    }
  }

  has({ id, startedAt }: Container): boolean {
    return this.#startedAt.get(id) === startedAt;
  }

  async add({ id, startedAt }: Container): Promise<void> {
    this.#startedAt.set(id, startedAt);
    await this.#write();
  }

  async keepOnly(isKept: (containerId: string) => boolean): Promise<void> {
    const gone = [...this.#startedAt.keys()].filter((id) => !isKept(id));
    for (const id of gone) this.#startedAt.delete(id);
    if (gone.length > 0) await this.#write();
  }

  async #write(): Promise<void> {
    await replaceFile(this.#path, JSON.stringify(Object.fromEntries(this.#startedAt)));
  }
}
