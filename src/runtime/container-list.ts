// Those of Docker's containers that matter, kept current: all of them when Docker's events begin, then each one that an
// event is about.
import { messageOf } from "../lib/errors.ts";
import type { Log } from "../lib/log.ts";
import { Turns } from "../lib/turns.ts";
import { type Container, type ContainerEvent, type DockerEngine, DockerError } from "./docker-engine.ts";
import type { DockerWatch } from "./docker-watch.ts";

/** The actions after which a container is looked at. Others, such as the exec of a health check, change nothing that counts here. */
const CHANGING = /^(start|die|destroy|rename|health_status)/;

interface ContainerListOptions {
  engine: Pick<DockerEngine, "container" | "containers">;
  watch: Pick<DockerWatch, "isUp" | "listen">;
  log: Log;
  /** Whether a container matters. */
  matters(id: string, labels: Readonly<Record<string, string>>): boolean;
  /** A container in the list changed. */
  changed(): void;
}

export class ContainerList {
  readonly #options: ContainerListOptions;
  // BOUNDED: by the engine's containers that matter; keyed by container id.
  readonly #containers = new Map<string, Container>();
  readonly #stopListening: () => void;
  /** An older look must not overwrite a newer one. */
  readonly #turns = new Turns();
  #wasRead = false;

  constructor(options: ContainerListOptions) {
    this.#options = options;
    this.#stopListening = options.watch.listen({
      opened: () => {
        this.#wasRead = false;
        void this.#lookInTurn(() => this.#lookAtAll());
      },
      happened: (event) => this.#happened(event),
    });
  }

  get(id: string): Container | undefined {
    return this.#containers.get(id);
  }

  get all(): readonly Container[] {
    return [...this.#containers.values()];
  }

  /** Whether a container that is not in the list does not exist: events arrive, and all were looked at since. */
  get isCurrent(): boolean {
    return this.#wasRead && this.#options.watch.isUp;
  }

  /** Looks at a container that may have come to matter. Resolves when that is done. */
  look(id: string): Promise<void> {
    return this.#lookInTurn(() => this.#look(id));
  }

  /** Looks at a container that may not have mattered when all were looked at. Throws DockerError. */
  async find(id: string): Promise<Container | undefined> {
    await this.#turns.run(() => this.#read(id));
    return this.get(id);
  }

  /** Looks at all again if the last such look did not come to its end. */
  catchUp(): void {
    if (!this.#wasRead && this.#options.watch.isUp) void this.#lookInTurn(() => this.#lookAtAll());
  }

  async close(): Promise<void> {
    this.#stopListening();
    await this.#turns.settled();
  }

  #happened({ id, action, attributes }: ContainerEvent): void {
    if (!CHANGING.test(action)) return;
    if (this.#containers.has(id) || this.#options.matters(id, attributes)) void this.look(id);
  }

  #lookInTurn(look: () => Promise<void>): Promise<void> {
    return this.#turns.run(look).catch((error: unknown) => {
      // When Docker goes away its events end too, and when it is back all are looked at again.
      this.#options.log.warn("containers cannot be looked at", { reason: messageOf(error) });
    });
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
