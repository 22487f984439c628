// A real Docker engine: the machine's, or one of our own. No registry is asked for anything: the base image is made from
// this machine's own programs.
import { spawn } from "node:child_process";
import { closeSync, existsSync, openSync, rmSync } from "node:fs";
import { rm } from "node:fs/promises";
import { connect, createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DOCKER_SOCKET, DockerEngine } from "../../src/runtime/docker-engine.ts";
import { temporaryDirectory } from "../temporary.ts";
import { run, tryRun, waitFor } from "./command.ts";

/** With sh, a few of the core utilities, curl, dig and node. */
export const BASE_IMAGE = "overlayd-test/base:1";
const PROGRAMS = [
  "sh",
  "cat",
  "sleep",
  "ls",
  "id",
  "env",
  "hostname",
  "touch",
  "rm",
  "head",
  "tail",
  "curl",
  "dig",
  "ip",
];
const LOG = join(tmpdir(), "overlayd-test-dockerd.log");

/** Why there can be no engine here; undefined when there can. */
export function whyNoEngine(): string | undefined {
  if (process.getuid?.() !== 0) return "needs root";
  const places = [DOCKER_SOCKET, "/usr/bin/dockerd", "/usr/sbin/dockerd", "/usr/local/bin/dockerd"];
  return places.some((path) => existsSync(path)) ? undefined : "needs Docker: apt-get install docker.io";
}

/** The machine's engine, or one that is started now; returns what stops that one. */
export async function startEngine(): Promise<() => Promise<void>> {
  const engine = new DockerEngine();
  if (await engine.answers()) return async () => {};
  const log = openSync(LOG, "a");
  const child = spawn("dockerd", [], { stdio: ["ignore", log, log] });
  closeSync(log);
  let failure: string | undefined;
  child.once("error", (error) => {
    failure = error.message;
  });
  const ended = new Promise<void>((resolve) => {
    child.once("exit", (code) => {
      failure = `dockerd exited with ${code}; see ${LOG}`;
      resolve();
    });
  });
  const answers = (): Promise<boolean> | true => failure !== undefined || engine.answers();
  await waitFor(answers, { what: "dockerd to answer" });
  if (failure !== undefined) throw new Error(failure);
  return async () => {
    child.kill();
    await ended;
  };
}

/** Makes BASE_IMAGE where it is not there. */
export async function makeBaseImage(): Promise<void> {
  if ((await tryRun(["docker", "image", "inspect", BASE_IMAGE])).status === 0) return;
  const script = `
    set -e
    files=$(for program in ${PROGRAMS.join(" ")}; do command -v "$program"; done; echo ${process.execPath})
    libraries=$(ldd $files 2>/dev/null | grep -oE '/[^ ]+' | grep -v ':$' | sort -u)
    cd "$1" && mkdir -p etc tmp root bin && chmod 1777 tmp && cp -L "$(command -v sh)" bin/sh
    echo 'root:x:0:0:root:/root:/bin/sh
nobody:x:65534:65534:nobody:/:/bin/sh' > etc/passwd
    tar -c --dereference --hard-dereference -f image.tar -C / $(printf '%s\\n' $files $libraries | sed 's|^/||' | sort -u) -C "$1" etc tmp root bin
    docker import --change 'ENV PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin' image.tar ${BASE_IMAGE} >/dev/null`;
  const directory = temporaryDirectory("image");
  try {
    const path = `${process.env.PATH}:/usr/sbin:/sbin`;
    await run(["bash", "-o", "pipefail", "-c", script, "make-image", directory], { env: { PATH: path } });
  } finally {
    await rm(directory, { recursive: true });
  }
}

/** An image on top of BASE_IMAGE: a name, and lines as of a Dockerfile's `--change`. */
export async function makeImage(name: string, ...changes: string[]): Promise<void> {
  const id = (await run(["docker", "create", BASE_IMAGE, "sh"])).trim();
  try {
    await run(["docker", "commit", ...changes.flatMap((change) => ["--change", change]), id, name]);
  } finally {
    await run(["docker", "rm", id]);
  }
}

/** A socket of its own in front of the engine: what stands behind it can be taken away and brought back. */
export class EngineDoor {
  readonly path: string;
  #server: Server | undefined;
  readonly #open = new Set<Socket>();

  constructor(path: string) {
    this.path = path;
  }

  async open(): Promise<void> {
    this.#server = createServer((socket) => {
      const upstream = connect(DOCKER_SOCKET);
      for (const [from, to] of [
        [socket, upstream],
        [upstream, socket],
      ] as const) {
        this.#open.add(from);
        from.on("error", () => to.destroy());
        from.on("close", () => {
          this.#open.delete(from);
          to.destroy();
        });
        from.pipe(to);
      }
    });
    await new Promise<void>((resolve) => this.#server!.listen(this.path, resolve));
  }

  /** From now on it takes every connection and answers none, as an engine that hangs. */
  async hang(): Promise<void> {
    await this.close();
    this.#server = createServer((socket) => {
      this.#open.add(socket);
      socket.on("error", () => {});
      socket.on("close", () => this.#open.delete(socket));
      socket.resume();
    });
    await new Promise<void>((resolve) => this.#server!.listen(this.path, resolve));
  }

  /** Whoever is inside is thrown out. */
  async close(): Promise<void> {
    const closed = new Promise((resolve) => this.#server?.close(resolve) ?? resolve(undefined));
    for (const socket of this.#open) socket.destroy();
    await closed;
    rmSync(this.path, { force: true });
  }
}
