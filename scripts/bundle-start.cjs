#!/usr/bin/env node
// Runs BUNDLE.js beside this file, from the code that V8 compiled of it when it was built. Another version of Node
// compiles it anew. Stack traces name the files that it was made from.
const { readFileSync } = require("node:fs");
const { SourceMap } = require("node:module");
const { join } = require("node:path");
const { pathToFileURL } = require("node:url");
const { Script } = require("node:vm");

const path = join(__dirname, "BUNDLE.js");
const script = new Script(readFileSync(path, "utf8"), { filename: path, cachedData: cache() });

function cache() {
  try {
    return readFileSync(join(__dirname, "BUNDLE.cache"));
  } catch {
    return undefined; // only slower
  }
}

// Only a trace that is printed is mapped: Node itself reads the stacks of ordinary failures, and a map in memory is large.
process.on("uncaughtExceptionMonitor", (error) => {
  if (typeof error?.stack === "string") error.stack = mapped(error.stack);
});

/** The stack with its places in the sources. */
function mapped(stack) {
  try {
    const map = new SourceMap(JSON.parse(readFileSync(`${path}.map`, "utf8")));
    return stack.replaceAll(/([^ (\n]+):(\d+):(\d+)/g, (place, file, line, column) => {
      if (file !== path) return place;
      const { originalSource, originalLine, originalColumn } = map.findEntry(line - 1, column - 1);
      if (originalSource === undefined) return place;
      return `${join(__dirname, originalSource)}:${originalLine + 1}:${originalColumn + 1}`;
    });
  } catch {
    return stack; // there is no map
  }
}

script.runInThisContext()(require, module, pathToFileURL(__filename).href);
