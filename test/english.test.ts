// Comments and messages name the actor, and begin with their subject. CONTRIBUTING.md says why.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import test from "ava";

const FILES = ["src", "docs"].flatMap((folder) =>
  readdirSync(folder, { recursive: true, encoding: "utf8" })
    .filter((name) => /\.(ts|md)$/.test(name))
    .map((name) => join(folder, name)),
);

/** What a reader must guess at. */
const OBSCURE: [what: string, pattern: RegExp][] = [
  ["'likewise', for what is not repeated", /\blikewise\b/i],
  ["'somebody', 'nobody' and 'whoever', for an actor without a name", /\b(somebody|nobody|everybody|whoever)\b/i],
  ["'who asks', for a client or peer", /\bwho asks\b/i],
  ["'of which' and 'of whom', for a second sentence", /\bof (which|whom)\b/i],
  ["'so long', for a time without a length", /\bso long\b/i],
  ["a comment that begins with 'Of'", /(\/\*\*|\/\/) Of\b/],
];

test("a count and its word agree: lib/counted.ts joins them", (t) => {
  const found = FILES.filter((path) => path.endsWith(".ts")).flatMap((path) => {
    const lines = readFileSync(path, "utf8").split("\n");
    return lines.flatMap((line, i) =>
      /(?<!of )\$\{[^{}]*\.(length|size)\} [a-z]+s\b/.test(line) ? [`${path}:${i + 1}: ${line.trim()}`] : [],
    );
  });
  t.deepEqual(found, []);
});

for (const [what, pattern] of OBSCURE) {
  test(`no file has ${what}`, (t) => {
    const found = [...FILES, "README.md", "CONTRIBUTING.md"].flatMap((path) =>
      readFileSync(path, "utf8")
        .split("\n")
        .map((line) => (path.endsWith(".md") ? line.replace(/"[^"]*"/g, "") : line)) // it quotes titles of tests
        .flatMap((line, i) => (pattern.test(line) ? [`${path}:${i + 1}: ${line.trim()}`] : [])),
    );
    t.deepEqual(found, []);
  });
}
