// Bundles what is shipped into dist/bin: each program is one file, whose names are not shortened, beside the map to its sources and the
// code that V8 has compiled of it. Loading hundreds of modules took most of overlayctl's start.
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { chmodSync, copyFileSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { build } from "esbuild";

const OUT = "dist/bin";
/** Packages that are loaded as they are: they have binaries, or are needed by few nodes or commands. */
const EXTERNAL = ["koffi", "lmdb", "dockerode", "@peculiar/x509", "reflect-metadata"];
/** `warmUp`: arguments that run what every start runs, so that its code is compiled and kept; none: it is not run. */
const PROGRAMS = [
  { name: "overlayctl", source: "src/cli/main.ts", warmUp: ["--socket", "/nowhere/overlayd.sock", "network", "ls"] },
  { name: "overlayd", source: "src/agent/main.ts", warmUp: ["--version"] },
  { name: "worker", source: "src/worker/worker.ts", warmUp: [] },
];

export async function bundle() {
  rmSync(OUT, { recursive: true, force: true });
  mkdirSync(OUT, { recursive: true });
  // Node's require is quicker than its import.
  writeFileSync(join(OUT, "package.json"), '{ "type": "commonjs" }\n');
  const start = readFileSync("scripts/bundle-start.cjs", "utf8");
  for (const { name, source, warmUp } of PROGRAMS) {
    const { outputFiles } = await build({
      entryPoints: [source],
      bundle: true,
      write: false,
      outfile: join(OUT, `${name}.js`),
      platform: "node",
      format: "cjs",
      target: "node20",
      sourcemap: "external",
      sourcesContent: false,
      // One character of a comment that is not Latin-1 would double the bytes that the program's text takes in memory.
      minifyWhitespace: true,
      external: EXTERNAL,
      define: { "import.meta.url": "importMetaUrl" },
      supported: { "dynamic-import": false },
      banner: { js: "(function (require, module, importMetaUrl) {" },
      footer: { js: "})" },
      logLevel: "warning",
    });
    const [map, code] = outputFiles.toSorted(
      (a, b) => Number(b.path.endsWith(".map")) - Number(a.path.endsWith(".map")),
    );
    // The bundle's name has its content, so that no cache of another build is taken for its own.
    const stem = `${name}-${createHash("sha256").update(code.contents).digest("hex").slice(0, 16)}`;
    writeFileSync(join(OUT, `${stem}.js`), code.text.replace(/^#!.*/, ""));
    writeFileSync(join(OUT, `${stem}.js.map`), map.contents);
    writeFileSync(join(OUT, `${name}.js`), start.replaceAll("BUNDLE", stem));
    chmodSync(join(OUT, `${name}.js`), 0o755);
    execFileSync(process.execPath, ["scripts/compile-bundle.cjs", join(OUT, `${stem}.js`), ...warmUp], {
      stdio: ["ignore", "ignore", "pipe"],
    });
  }
  for (const path of readdirSync("dist/src/packet").filter((file) => file.endsWith(".wasm")))
    copyFileSync(join("dist/src/packet", path), join(OUT, path));
}
