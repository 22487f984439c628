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

let map;
Error.prepareStackTrace = (error, frames) => {
  const lines = frames.map((frame) => `\n    at ${placed(frame)}`);
  return `${error}${lines.join("")}`;
};

/** A frame in Node's words, at its place in the sources. The map is read when the first trace is printed. */
function placed(frame) {
  const text = frame.toString();
  if (frame.getFileName() !== path) return text;
  try {
    map ??= new SourceMap(JSON.parse(readFileSync(`${path}.map`, "utf8")));
    const { originalSource, originalLine, originalColumn } = map.findEntry(
      frame.getLineNumber() - 1,
      frame.getColumnNumber() - 1,
    );
    const place = `${join(__dirname, originalSource)}:${originalLine + 1}:${originalColumn + 1}`;
    return text.replace(/[^ (]*:\d+:\d+/, place);
  } catch {
    return text;
  }
}

script.runInThisContext()(require, module, pathToFileURL(__filename).href);
