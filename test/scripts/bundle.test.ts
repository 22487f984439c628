// What is shipped: one file a program, which runs with or without the code that V8 compiled of it, and says in its stack
// traces which source it was.
import { execFile } from "node:child_process";
import { copyFileSync, existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import test from "ava";
import { VERSION } from "../../src/lib/version.ts";
import { temporaryDirectory } from "../temporary.ts";

const BIN = fileURLToPath(new URL("../../bin/", import.meta.url));
const run = promisify(execFile);

function copyOfBin(filter: (name: string) => boolean): string {
  const directory = temporaryDirectory("bin");
  for (const name of readdirSync(BIN)) if (filter(name)) copyFileSync(join(BIN, name), join(directory, name));
  return directory;
}

test("every program that the package names is there", (t) => {
  const { bin } = JSON.parse(readFileSync("package.json", "utf8")) as { bin: Record<string, string> };
  t.deepEqual(Object.keys(bin), ["overlayd", "overlayctl"]);
  for (const path of Object.values(bin)) t.true(existsSync(path), path);
});

for (const [what, isCopied, cache] of [
  ["as it was built", () => true, undefined],
  ["without V8's code", (name: string) => !name.endsWith(".cache"), undefined],
  ["with code of another V8", () => true, "not code"],
  ["without the map of its sources", (name: string) => !name.endsWith(".map"), undefined],
] as const) {
  test(`overlayctl runs ${what}`, async (t) => {
    const directory = copyOfBin((name) => (name.startsWith("overlayctl") || name === "package.json") && isCopied(name));
    t.teardown(() => rmSync(directory, { recursive: true }));
    for (const name of readdirSync(directory))
      if (cache !== undefined && name.endsWith(".cache")) writeFileSync(join(directory, name), cache);
    const { stdout } = await run(process.execPath, [join(directory, "overlayctl.js"), "--version"]);
    t.is(stdout, `${VERSION}\n`);
  });
}

test("no program carries what signs certificates: it takes long to load, and few commands need it", (t) => {
  for (const name of readdirSync(BIN).filter((file) => file.endsWith(".js"))) {
    t.notRegex(readFileSync(join(BIN, name), "utf8"), /X509CertificateGenerator = class/, name);
  }
});

test("a stack trace names the source, its line and the function", async (t) => {
  const directory = copyOfBin(() => false);
  t.teardown(() => rmSync(directory, { recursive: true }));
  const preload = join(directory, "preload.cjs");
  writeFileSync(
    preload,
    `require("node:http").request = () => {
      const error = new Error("here");
      setImmediate(() => { throw error; });
      throw error;
    };`,
  );
  const args = ["--require", preload, join(BIN, "overlayctl.js"), "--socket", "/nowhere", "network", "ls"];
  const { stderr } = (await t.throwsAsync(run(process.execPath, args))) as unknown as { stderr: string };
  const [, path, line] = /^Error: here\n(?:.*\n)*? {4}at new Exchange \((\S+\/src\/lib\/http\.ts):(\d+):\d+\)/m.exec(
    stderr,
  )!;
  t.regex(readFileSync(path!, "utf8").split("\n")[Number(line) - 1]!, /httpRequest\(/);
});
