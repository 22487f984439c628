// Compiles src, test, bench and scripts into dist, and the WebAssembly text beside them; then bundles what is shipped.
import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import wabtModule from "wabt";

if (process.argv.includes("--clean")) rmSync("dist", { recursive: true, force: true });
execFileSync("node_modules/.bin/tsc", { stdio: "inherit" });

const wabt = await wabtModule();
for (const path of ["src/packet/checksum.wat"]) {
  const module = wabt.parseWat(path, readFileSync(path, "utf8"), { simd: true });
  const out = `dist/${path.replace(/\.wat$/, ".wasm")}`;
  mkdirSync(dirname(out), { recursive: true });
  writeFileSync(out, module.toBinary({}).buffer);
}
const { bundle } = await import("./bundle.mjs").catch((error) => {
  throw new Error(`${error.message}; 'npm install --ignore-scripts' brings packages that are new`);
});
await bundle();
