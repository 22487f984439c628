// Each test that docs/security.md and the README's table name exists, with the words that it quotes in its title.
import { existsSync, readFileSync } from "node:fs";
import test from "ava";

interface Row {
  what: string;
  /** FOLDER/FILE: "words of a title"; "of another"; FOLDER/FILE: ... */
  tests: string;
}

/** The rows of a table in a file that match, with two of their cells. */
function rowsOf(path: string, pattern: RegExp, what: number, tests: number): Row[] {
  return readFileSync(path, "utf8")
    .split("\n")
    .filter((line) => pattern.test(line))
    .map((line) => line.split(/(?<!\\)\|/).map((cell) => cell.trim()))
    .map((cells) => ({ what: cells[what]!, tests: cells[tests]! }));
}

const CANNOT = rowsOf("docs/security.md", /^\| cannot \|/, 2, 3);
const CAN = rowsOf("docs/security.md", /^\| can \|/, 2, 3);
const MISSED = rowsOf("README.md", /^\| .*\[(moby|swarmkit)#/, 1, 3);

test("what others cannot do is many lines, each with a test", (t) => {
  t.true(CAN.length + CANNOT.length > 40, `${CAN.length + CANNOT.length} lines`);
  for (const { what, tests } of CANNOT) t.not(tests, "", what);
});

test("what users of Swarm's network miss is lines with a test each", (t) => {
  t.true(MISSED.length > 10, `${MISSED.length} lines`);
  for (const { what, tests } of MISSED) t.not(tests, "", what);
});

for (const { what, tests } of [...CAN, ...CANNOT, ...MISSED].filter((row) => row.tests !== "")) {
  test(`${what.slice(0, 80)}: its tests are there`, (t) => {
    let source: string | undefined;
    for (const part of tests.split(/;\s+/)) {
      const [, file, title] = /(?:.*?)(?:([a-z-]+\/[a-z.-]+))?(?:: )?(?:"(.*)")?$/.exec(part) ?? [];
      if (file !== undefined) {
        const path = [`test/${file}.test.ts`, `test/${file}.ts`].find((one) => existsSync(one));
        t.truthy(path, file);
        source = readFileSync(path!, "utf8");
      }
      t.truthy(source, `${part}: a file is named`);
      if (title !== undefined) t.true(source!.includes(title), `"${title}" is a test of ${part}`);
    }
  });
}
