// The nearest word: near ones are offered, far ones are not.
import { readFileSync } from "node:fs";
import test from "ava";
import { nearest } from "../../src/lib/nearest.ts";
import { VERSION } from "../../src/lib/version.ts";

const rows: [word: string, candidates: string[], meant: string | undefined][] = [
  ["serach", ["search", "web"], "search"],
  ["vxlna", ["vxlan", "dns"], "vxlan"],
  ["WEB", ["web"], "web"],
  ["manager", ["managers", "listen"], "managers"],
  ["colour", ["pool", "mesh", "node"], undefined],
  ["x", ["y"], "y"],
  ["x", ["web"], undefined],
  ["web", [], undefined],
];
for (const [word, candidates, meant] of rows) {
  test(`'${word}' among ${candidates.join(", ") || "nothing"} means ${meant ?? "none"}`, (t) => {
    t.is(nearest(word, candidates), meant);
  });
}

test("the version is package.json's", (t) => {
  const { version } = JSON.parse(readFileSync("package.json", "utf8")) as { version: string };
  t.is(VERSION, version);
});
