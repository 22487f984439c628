// The programs in programs/, which tests and the benchmark run in containers.
import { fileURLToPath } from "node:url";

/** argv of one of the programs in programs/. */
export function program(
  name:
    | "echo-server"
    | "half-closed"
    | "ask"
    | "talk"
    | "watch-name"
    | "ask-at-once"
    | "crash-and-return"
    | "ask-train"
    | "ask-many"
    | "resolver"
    | "attach-queue"
    | "bulk"
    | "flood"
    | "unname-state"
    | "one-sided-lane"
    | "tcx-programs"
    | "tcx-stranger"
    | "sealed-node",
  ...argv: (string | number)[]
): string[] {
  const path = fileURLToPath(new URL(`./programs/${name}.js`, import.meta.url));
  return [process.execPath, path, ...argv.map(String)];
}
