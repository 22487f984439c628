// Each test that docs/security.md names exists, with the words that it quotes in its title.
import { existsSync, readFileSync } from "node:fs";
import test from "ava";

const ROWS = readFileSync("docs/security.md", "utf8")
  .split("\n")
  .filter((line) => /^\| (can|cannot) \|/.test(line))
  .map((line) => line.split("|").map((cell) => cell.trim()))
  .map(([, verdict, what, tests]) => ({ verdict, what: what!, tests: tests! }));

test("what others cannot do is many lines, each with a test", (t) => {
  t.true(ROWS.length > 40, `${ROWS.length} lines`);
  for (const { verdict, what, tests } of ROWS) if (verdict === "cannot") t.not(tests, "", what);
});

for (const { what, tests } of ROWS.filter((row) => row.tests !== "")) {
  test(`${what.slice(0, 80)}: its tests are there`, (t) => {
    let source: string | undefined;
    for (const part of tests.split(/;\s+/)) {
      const [, file, title] = /(?:.*?)(?:([a-z-]+\/[a-z-]+))?(?:: )?(?:"(.*)")?$/.exec(part) ?? [];
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
