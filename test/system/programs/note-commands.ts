// Loaded into an agent before its own code (`node --import`): notes each process that the agent starts as a line of JSON, its
// argv, in the file that COMMANDS_FILE names.

import type { ChildProcess } from "node:child_process";
import { subscribe } from "node:diagnostics_channel";
import { appendFileSync } from "node:fs";

const file = process.env.COMMANDS_FILE;
if (file !== undefined) {
  subscribe("child_process", (message) => {
    const { process: child } = message as { process: ChildProcess };
    // It is told before its argv is set.
    process.nextTick(() => appendFileSync(file, `${JSON.stringify(child.spawnargs)}\n`));
  });
}
