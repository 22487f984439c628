// Docker Compose as system tests use it, and the images that the compose file builds.
import { existsSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { stringify } from "yaml";
import { temporaryDirectory } from "../temporary.ts";
import { type Finished, run, tryRun } from "./command.ts";
import { whyNoEngine } from "./engine.ts";
import { configured, LANE } from "./lab-files.ts";

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
  /** The compose files, where they are not those that a person has. */
  readonly #files: readonly string[];

  constructor(project: string) {
    this.#project = project;
    this.#files = LANE === undefined ? [] : ["-f", "docker-compose.yml", "-f", writeOverride()];
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
    return tryRun([...argv, ...this.#files, "-p", this.#project, ...withoutTerminal], { timeoutMs: BUILD_MS });
  }

  /** Its standard output; throws when it fails. */
  async must(...words: string[]): Promise<string> {
    const { status, stdout, stderr } = await this.run(...words);
    if (status !== 0) throw new Error(`'docker compose ${words.join(" ")}' exited with ${status}: ${stderr || stdout}`);
    return stdout;
  }
}

/** A compose file that gives the nodes the configurations that OVERLAYD_TEST_LANE makes of theirs. */
function writeOverride(): string {
  const directory = temporaryDirectory("compose");
  const nodes = ["node1", "node2", "node3"].map((node) => {
    const file = configured(resolve(`configs/compose/${node}.yaml`), join(directory, `${node}.yaml`));
    return [node, { volumes: [`${file}:/etc/overlayd.yaml:ro`] }];
  });
  const path = join(directory, "lane.yml");
  writeFileSync(path, stringify({ services: Object.fromEntries(nodes) }));
  return path;
}
