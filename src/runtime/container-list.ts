// The engine's containers that matter to somebody, kept current: all of them when the engine's events begin, then each
// one that an event is about.
import { messageOf } from "../lib/errors.ts";
import type { Log } from "../lib/log.ts";
import { type Container, type ContainerEvent, type DockerEngine, DockerError } from "./docker-engine.ts";
import type { DockerWatch } from "./docker-watch.ts";

/** The rest changes nothing that is looked at here: execs, of which health checks are many, copies and so on. */
const TELLING = /^(start|die|destroy|rename|health_status)/;

export interface ContainerListOptions {
  engine: Pick<DockerEngine, "container" | "containers">;
  watch: Pick<DockerWatch, "isUp" | "listen">;
  log: Log;
  /** Whether a container matters. */
  matters(id: string, labels: Readonly<Record<string, string>>): boolean;
  /** Something is different from before. */
  changed(): void;
}

export class ContainerList {
  readonly #options: ContainerListOptions;
  // BOUNDED: by the engine's containers that matter; keyed by container id.
  readonly #containers = new Map<string, Container>();
  readonly #stopListening: () => void;
  /** Looks come one after the other: an older one must not overwrite a newer. */
  #turn: Promise<void> = Promise.resolve();
  #wasRead = false;

  constructor(options: ContainerListOptions) {
    this.#options = options;
    this.#stopListening = options.watch.listen({
      opened: () => {
        this.#wasRead = false;
        void this.#inTurn(() => this.#lookAtAll());
      },
      happened: (event) => this.#told(event),
    });
  }

  get(id: string): Container | undefined {
    return this.#containers.get(id);
  }

  get all(): readonly Container[] {
    return [...this.#containers.values()];
  }

  /** Whether a container that is not among them is not there: events arrive, and all were looked at since. */
  get isCurrent(): boolean {
    return this.#wasRead && this.#options.watch.isUp;
  }

  /** Looks at one that may have come to matter. Resolves when it was looked at. */
  look(id: string): Promise<void> {
    return this.#inTurn(() => this.#look(id));
  }

  /** One that did not matter when all were looked at may matter now. Throws DockerError. */
  async find(id: string): Promise<Container | undefined> {
    const read = this.#turn.then(() => this.#read(id));
    this.#turn = read.catch(() => {});
    await read;
    return this.get(id);
  }

  /** Looks at all again where that could not be done to its end. */
  catchUp(): void {
    if (!this.#wasRead && this.#options.watch.isUp) void this.#inTurn(() => this.#lookAtAll());
  }

  async close(): Promise<void> {
    this.#stopListening();
    await this.#turn;
  }

  #told({ id, action, attributes }: ContainerEvent): void {
    if (!TELLING.test(action)) return;
    if (this.#containers.has(id) || this.#options.matters(id, attributes)) void this.look(id);
  }

  #inTurn(work: () => Promise<void>): Promise<void> {
    this.#turn = this.#turn.then(work).catch((error: unknown) => {
      // When the engine goes away its events end too, and when it is back all are looked at again.
      this.#options.log.warn("containers cannot be looked at", { reason: messageOf(error) });
    });
    return this.#turn;
  }

  async #look(id: string): Promise<void> {
    await this.#read(id);
    this.#options.changed();
  }

  async #lookAtAll(): Promise<void> {
    const { engine, log, matters, changed } = this.#options;
    const rows = await engine.containers();
    const wanted = new Set(rows.filter(({ id, labels }) => matters(id, labels)).map(({ id }) => id));
    for (const id of this.#containers.keys()) if (!wanted.has(id)) this.#containers.delete(id);
    let isWhole = true;
    for (const id of wanted) {
      try {
        await this.#read(id);
      } catch (error) {
        if (!(error instanceof DockerError) || error.status === undefined) throw error;
        log.warn("a container cannot be looked at", { reason: messageOf(error) }); // the others can
        isWhole = false;
      }
    }
    this.#wasRead = isWhole;
    changed();
  }

  async #read(id: string): Promise<void> {
    const { engine, matters } = this.#options;
    const container = await engine.container(id);
    if (container !== undefined && matters(id, container.labels)) this.#containers.set(id, container);
    else this.#containers.delete(id);
  }
}
