// What tasks printed, on an operator's terminal.
import test from "ava";
import { printable, printableJson } from "../../src/cli/printable.ts";
import { formatTable } from "../../src/cli/table.ts";

test("control characters of C0 and C1 are replaced, newlines stay", (t) => {
  t.is(printable("a\x1b]0;title\x07b\x9b31mc\x7f\td\n"), "a\ufffd]0;title\ufffdb\ufffd31mc\ufffd d\n");
});

test("a cell of a table carries no escape sequence, and is one line", (t) => {
  const text = formatTable([{ header: "ERROR", value: (row: string) => row }], ["failed: \x1b[2J\r\nroot# \x08x"]);
  t.is(text, "ERROR\nfailed: \ufffd[2J root# \ufffdx\n");
});

test("JSON keeps what it says, and escapes what a terminal would obey", (t) => {
  const value = { error: "\x1b[2J\x9b2J" };
  const text = printableJson(value);
  t.false(text.includes("\x1b") || text.includes("\x9b"));
  t.deepEqual(JSON.parse(text), value);
});
