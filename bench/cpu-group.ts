// A cgroup for processor time, of version 1 or 2 as the machine has it: how a container's processes stand to others'.
import { existsSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";

const VERSION_1 = "/sys/fs/cgroup/cpu";
const VERSION_2 = "/sys/fs/cgroup";

export class CpuGroup {
  readonly #root: string;
  readonly #path: string;
  readonly #isFirstVersion: boolean;

  /**
   * Makes a group and moves `pids` into it, each with all of its threads; children that they start later are in it too.
   * Throws where there is no cgroup controller for processor time.
   */
  constructor(name: string, pids: readonly number[]) {
    this.#isFirstVersion = existsSync(join(VERSION_1, "cpu.shares"));
    this.#root = this.#isFirstVersion ? VERSION_1 : VERSION_2;
    if (!this.#isFirstVersion) writeFileSync(join(VERSION_2, "cgroup.subtree_control"), "+cpu");
    this.#path = join(this.#root, name);
    mkdirSync(this.#path, { recursive: true });
    for (const pid of pids) writeFileSync(join(this.#path, "cgroup.procs"), `${pid}`);
  }

  /** Sets the group's weight; 1 is what every group has from the start. */
  weigh(factor: number): void {
    const [file, ordinary] = this.#isFirstVersion ? (["cpu.shares", 1024] as const) : (["cpu.weight", 100] as const);
    writeFileSync(join(this.#path, file), `${ordinary * factor}`);
  }

  /** Moves back what is left in it, and removes it. */
  remove(): void {
    for (const pid of readFileSync(join(this.#path, "cgroup.procs"), "utf8").split("\n").filter(Boolean)) {
      writeFileSync(join(this.#root, "cgroup.procs"), pid);
    }
    rmdirSync(this.#path);
  }
}
