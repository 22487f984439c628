// What the demo speaks through: types lines into hosts as a person would, shows what they say, and counts what held.
import type { Finished } from "../test/system/command.ts";
import type { LabHost } from "../test/system/lab.ts";

export class Terminal {
  checks = 0;
  failed = 0;

  say(text: string): void {
    console.log(`\n# ${text}`);
  }

  /** Types `line` into a host and shows it with its output. */
  async type(name: string, host: LabHost, line: string): Promise<Finished> {
    console.log(`${name}$ ${line}`);
    const finished = await host.shell(line);
    process.stdout.write(finished.stdout + finished.stderr);
    return finished;
  }

  check(what: string, holds: boolean, found?: unknown): void {
    this.checks++;
    if (!holds) this.failed++;
    const why =
      holds || found === undefined ? "" : `: found ${typeof found === "string" ? found : JSON.stringify(found)}`;
    console.log(`${holds ? "ok" : "not ok"} ${this.checks} - ${what}${why}`);
  }
}
