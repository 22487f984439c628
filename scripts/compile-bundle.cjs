// Writes what V8 compiles of a bundle: `compile-bundle.cjs BUNDLE [ARGUMENT...]`. With arguments it runs the bundle with
// them, and keeps the code of the functions that were called, too.
const { readFileSync, writeFileSync } = require("node:fs");
const { createRequire } = require("node:module");
const { resolve } = require("node:path");
const { pathToFileURL } = require("node:url");
const { Script } = require("node:vm");

const path = resolve(process.argv[2]);
const words = process.argv.slice(3);
const script = new Script(readFileSync(path, "utf8"), { filename: path });
const save = () => writeFileSync(path.replace(/\.js$/, ".cache"), script.createCachedData());
if (words.length === 0) save();
else {
  process.on("exit", save);
  process.on("exit", () => {
    process.exitCode = 0;
  });
  process.argv = [process.argv[0], path, ...words];
  script.runInThisContext()(createRequire(path), module, pathToFileURL(path).href);
}
