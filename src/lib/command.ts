// Runs a program of the system, without a shell. What it says when it fails becomes an error that names the command.
import { execFile } from "node:child_process";
import { PlatformError } from "./errors.ts";

const TIMEOUT_MS = 20_000;
const MAX_OUTPUT_BYTES = 64 << 20;

/** The command ran and failed. `exitCode` is null when a signal or the time limit ended it. */
export class CommandError extends Error {
  override name = "CommandError";
  readonly argv: readonly string[];
  readonly exitCode: number | null;
  readonly stdout: string;
  readonly stderr: string;

  constructor(
    argv: readonly string[],
    exitCode: number | null,
    stdout: string,
    stderr: string,
    options?: ErrorOptions,
  ) {
    const how = exitCode === null ? "was ended" : `exit status ${exitCode}`;
    super(`${argv.join(" ")}: ${stderr.trim() || how}`, options);
    this.argv = argv;
    this.exitCode = exitCode;
    this.stdout = stdout;
    this.stderr = stderr;
  }
}

/**
 * For programs of the system. Their own folders come first: under npm, PATH begins with node_modules/.bin, and a package
 * there may bring a program of the same name (there is one called `nft`); and not every PATH has the sbin folders.
 */
export function systemEnv(): NodeJS.ProcessEnv {
  return { ...process.env, PATH: `/usr/sbin:/usr/bin:/sbin:/bin:${process.env.PATH ?? ""}`, LC_ALL: "C" };
}

/** Which package brings a program, on Debian's and most others' names. */
const PACKAGES: Readonly<Record<string, string>> = {
  ip: "iproute2",
  tc: "iproute2",
  ss: "iproute2",
  nft: "nftables",
  unshare: "util-linux",
};

/**
 * Its standard output. Throws CommandError when it fails, PlatformError when there is no such program.
 * `input` is what it reads from standard input.
 */
export function run(argv: readonly string[], input = ""): Promise<string> {
  const [file, ...args] = argv;
  if (file === undefined) throw new RangeError("no command");
  return new Promise((resolve, reject) => {
    const options = { timeout: TIMEOUT_MS, maxBuffer: MAX_OUTPUT_BYTES, env: systemEnv() };
    const child = execFile(file, args, options, (error, stdout, stderr) => {
      if (error === null) return resolve(stdout);
      if (error.code === "ENOENT") {
        return reject(new PlatformError(`'${file}' is not installed`, `apt-get install ${PACKAGES[file] ?? file}`));
      }
      const exitCode = typeof error.code === "number" ? error.code : null;
      return reject(new CommandError(argv, exitCode, stdout, stderr, { cause: error }));
    });
    // A command that ends before it has read its input closes the pipe: its exit status tells, not EPIPE.
    child.stdin?.on("error", () => {});
    child.stdin?.end(input);
  });
}
