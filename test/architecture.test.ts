// docs/architecture.md is true: the files that it names exist and have the functions that it names, and each room of src
// is in its table with what test/imports.test.ts lets it import.
import { existsSync, readdirSync, readFileSync } from "node:fs";
import test from "ava";

const TEXT = readFileSync("docs/architecture.md", "utf8");
/** `src/FILE` and, in parentheses right after it, the names in it. */
const STEPS = [...TEXT.matchAll(/`(src\/[\w./-]+)`(?:\s+\(`([\w#]+)`[^)]*\))?/g)].map(([, path, name]) => ({
  path,
  name,
}));

test("it names many files, most of them with a function", (t) => {
  t.true(STEPS.length > 60, `${STEPS.length} files`);
  t.true(STEPS.filter(({ name }) => name !== undefined).length > 40);
});

for (const [step, { path, name }] of STEPS.entries()) {
  test(`${step}: ${path} is there${name === undefined ? "" : `, and has ${name}`}`, (t) => {
    t.true(existsSync(path!));
    if (name === undefined) return;
    const declaration = new RegExp(
      `^\\s*(export )?(static )?(async )?(function |class |const |interface )?${name}\\b *(<.*>)?(\\(| = |\\{| implements)`,
      "m",
    );
    t.regex(readFileSync(path!, "utf8"), declaration);
  });
}

test("every room of src is in its table", (t) => {
  const rooms = [...TEXT.matchAll(/^\| `(\w+)` \|/gm)].map(([, room]) => room!);
  t.deepEqual(rooms.toSorted(), readdirSync("src").toSorted());
});
