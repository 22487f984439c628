// The configurations that we hand out are ones that the agent takes.
import { readdirSync, readFileSync } from "node:fs";
import test from "ava";
import { parseConfig } from "../src/agent/config.ts";

const files = readdirSync("configs", { recursive: true, encoding: "utf8" }).filter((name) => name.endsWith(".yaml"));

for (const name of files) {
  test(`the agent takes configs/${name}`, (t) => {
    t.notThrows(() => parseConfig(readFileSync(`configs/${name}`, "utf8")));
  });
}

test("the example's values are the defaults, where it says so", (t) => {
  const example = parseConfig(readFileSync("configs/overlayd.example.yaml", "utf8"));
  const { node } = example;
  const least = parseConfig(`
    node: { name: ${node.name}, address: ${node.address} }`);
  t.deepEqual(example, least);
});
