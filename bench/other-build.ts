// Another commit of this repository, checked out into a directory of its own and built there, and the experiments that
// hold this tree's agents against that commit's. Both are measured by this tree's bench.
import { existsSync, readFileSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { PlatformError, UserError } from "../src/lib/errors.ts";
import { run, tryRun } from "../test/system/command.ts";
import type { Contender, Experiment, Metric } from "./experiment.ts";
import { LIMITS } from "./limits.ts";

const PREFIX = "overlayd-against-";
const BUILD_MS = 600_000;
const LOCK = "package-lock.json";
/** How many letters of a commit's id name it in the rows. */
const SHORT = 12;

export class OtherBuild {
  /** What the rows call it. */
  readonly name: string;
  /** Its compiled tree. */
  readonly dist: string;
  readonly #directory: string;

  /** Throws UserError when `commit` names none of this repository, PlatformError when it cannot be built. */
  static async of(commit: string): Promise<OtherBuild> {
    await removeLeftovers();
    const id = await idOf(commit);
    const directory = join(tmpdir(), `${PREFIX}${process.pid}`);
    const build = new OtherBuild(id.slice(0, SHORT), directory);
    try {
      await run(["git", "worktree", "add", "--quiet", "--detach", directory, id]);
      if (hasAllPackages(readFileSync(LOCK, "utf8"), readFileSync(join(directory, LOCK), "utf8"))) {
        symlinkSync(join(process.cwd(), "node_modules"), join(directory, "node_modules"));
      } else {
        await run(["npm", "install", "--no-save", "--ignore-scripts"], { cwd: directory, timeoutMs: BUILD_MS });
      }
      await run(["npm", "run", "build"], { cwd: directory, timeoutMs: BUILD_MS });
      return build;
    } catch (cause) {
      await build.remove();
      const last = (cause as Error).message.split("\n").slice(-5).join("\n");
      throw new PlatformError(`commit ${id} cannot be built: ${last}`, `git worktree add /tmp/it ${build.name}`, {
        cause,
      });
    }
  }

  private constructor(name: string, directory: string) {
    this.name = name;
    this.dist = join(directory, "dist");
    this.#directory = directory;
  }

  remove(): Promise<void> {
    return removeWorktree(this.#directory);
  }
}

/** The name of this tree in the rows: its commit, and how many files differ from that. */
export async function nameOfThisTree(): Promise<string> {
  const id = (await run(["git", "rev-parse", `--short=${SHORT}`, "HEAD"])).trim();
  const changed = (await run(["git", "status", "--porcelain"])).split("\n").filter(Boolean).length;
  return changed === 0 ? id : `${id} and ${changed} changed ${changed === 1 ? "file" : "files"}`;
}

/** Whether every package of the lock file `other` is in `own`, in the same version: then they can be shared. */
export function hasAllPackages(own: string, other: string): boolean {
  type Lock = { packages: Record<string, { version?: string }> };
  const ownPackages = new Map(Object.entries((JSON.parse(own) as Lock).packages));
  const packages = Object.entries((JSON.parse(other) as Lock).packages).filter(([path]) => path !== "");
  return packages.every(([path, { version }]) => ownPackages.get(path)?.version === version);
}

async function idOf(commit: string): Promise<string> {
  const inside = await tryRun(["git", "rev-parse", "--show-toplevel"]);
  if (inside.status !== 0) {
    throw new PlatformError(`--against needs this tree's git repository: ${inside.stderr.trim()}`, "git status");
  }
  const found = await tryRun(["git", "rev-parse", "--verify", "--quiet", "--end-of-options", `${commit}^{commit}`]);
  if (found.status !== 0) throw new UserError(404, `--against: '${commit}' is no commit of this repository`);
  return found.stdout.trim();
}

/** Removes the trees of runs that were killed. */
async function removeLeftovers(): Promise<void> {
  const { stdout } = await tryRun(["git", "worktree", "list", "--porcelain"]);
  for (const [, path] of stdout.matchAll(/^worktree (.+)$/gm)) {
    const match = new RegExp(`^${PREFIX}(\\d+)$`).exec(basename(path!));
    if (match !== null && !existsSync(`/proc/${match[1]}`)) await removeWorktree(path!);
  }
}

async function removeWorktree(directory: string): Promise<void> {
  await tryRun(["git", "worktree", "remove", "--force", directory]);
  rmSync(directory, { recursive: true, force: true });
  await tryRun(["git", "worktree", "prune"]);
}

/** What is compared: a name for the rows, and the experiments over nodes that run this build. */
export interface Side {
  name: string;
  experiments: readonly Experiment[];
}

/** Experiments whose contenders are the first ones of the same experiment on either side, in adjacent pairs. */
export function againstOther(own: Side, other: Side): Experiment[] {
  const others = new Map(other.experiments.map((experiment) => [experiment.title, experiment]));
  return own.experiments.flatMap((experiment) => {
    const counterpart = others.get(experiment.title);
    if (counterpart === undefined) return [];
    const contenders = [contenderOf(own.name, experiment), contenderOf(other.name, counterpart)];
    return [
      { group: experiment.group, title: experiment.title, metrics: experiment.metrics.map(compared), contenders },
    ];
  });
}

/** Each measurement prepares and tidies up for itself, so that neither side is measured in the other's preparation. */
function contenderOf(name: string, { before, after, contenders }: Experiment): Contender {
  return {
    name,
    async measure() {
      await before?.();
      try {
        return await contenders[0]!.measure();
      } finally {
        await after?.();
      }
    },
  };
}

/** The same figure with a bar of its own: this tree is at most a little worse than the other. */
function compared({ id, unit, digits, alone, limit }: Metric): Metric {
  const counts = alone !== undefined && id !== "agents' CPU"; // which may be zero
  return {
    id,
    unit,
    digits,
    ...(counts ? { alone: true } : {}),
    ...(limit === undefined || alone !== undefined
      ? {}
      : { limit: limit.atMost ? LIMITS.againstAtMost : LIMITS.againstAtLeast }),
  };
}
