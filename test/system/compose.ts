// Docker Compose as system tests use it, and the images that the compose file builds.
import { existsSync } from "node:fs";
import { type Finished, run, tryRun } from "./command.ts";
import { whyNoEngine } from "./engine.ts";

const PLUGINS = ["/usr/libexec/docker", "/usr/lib/docker", "/usr/local/lib/docker"].map(
  (path) => `${path}/cli-plugins`,
);
const STANDALONE = ["/usr/bin/docker-compose", "/usr/local/bin/docker-compose"];
const BUILD_MS = 300_000;

/** The plugin `docker compose`, else the program that was before it. */
const argv = PLUGINS.some((path) => existsSync(`${path}/docker-compose`)) ? ["docker", "compose"] : ["docker-compose"];

/** Why there can be no compose file here; undefined when there can. */
export function whyNoCompose(): string | undefined {
  const has = argv.length > 1 || STANDALONE.some((path) => existsSync(path));
  return whyNoEngine() ?? (has ? undefined : "needs Docker Compose: apt-get install docker-compose");
}

export class Compose {
  readonly #project: string;

  constructor(project: string) {
    this.#project = project;
  }

  /** The base image too, where no registry has it. */
  async build(): Promise<void> {
    await run(["bash", "scripts/base-image.sh"], { timeoutMs: BUILD_MS });
    const { status, stdout, stderr } = await this.run("build");
    if (status !== 0) throw new Error(`the images cannot be built: ${(stdout + stderr).slice(-3000)}`);
  }

  /** What a person types after `docker compose`; there is no terminal. */
  run(...words: string[]): Promise<Finished> {
    const withoutTerminal = words[0] === "exec" ? ["exec", "-T", ...words.slice(1)] : words;
    return tryRun([...argv, "-p", this.#project, ...withoutTerminal], { timeoutMs: BUILD_MS });
  }

  /** Its standard output; throws when it fails. */
  async must(...words: string[]): Promise<string> {
    const { status, stdout, stderr } = await this.run(...words);
    if (status !== 0) throw new Error(`'docker compose ${words.join(" ")}' exited with ${status}: ${stderr || stdout}`);
    return stdout;
  }
}
