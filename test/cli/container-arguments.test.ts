// The words of options that describe a container, by rows.
import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import test from "ava";
import { InvalidArgumentError } from "commander";
import { bytes, commandLine, cpus, label, mount, variablesFile } from "../../src/cli/container-arguments.ts";
import { timeOf } from "../../src/cli/service-logs.ts";
import { temporaryDirectory } from "../temporary.ts";

const right: [what: string, read: (text: string) => unknown, text: string, value: unknown][] = [
  ["a size", bytes, "64m", 64 << 20],
  ["a size", bytes, "1.5G", 1.5 * 2 ** 30],
  ["a size", bytes, "512MiB", 512 << 20],
  ["a size", bytes, "1024", 1024],
  ["CPUs", cpus, "0.5", 0.5],
  ["CPUs", cpus, ".25", 0.25],
  ["a label", label, "a=b=c", [["a", "b=c"]]],
  ["a label", label, "a", [["a", ""]]],
  ["a command line", commandLine, `sh -c 'echo "a b"' "x\\"y" a\\ b`, ["sh", "-c", 'echo "a b"', 'x"y', "a b"]],
  ["a command line", commandLine, "/bin/sh", ["/bin/sh"]],
  [
    "a mount",
    mount,
    "type=bind,src=/a,dst=/b,readonly",
    [{ type: "bind", source: "/a", target: "/b", readOnly: true, sizeBytes: null }],
  ],
  [
    "a mount",
    mount,
    "source=data,target=/b",
    [{ type: "volume", source: "data", target: "/b", readOnly: false, sizeBytes: null }],
  ],
  [
    "a mount",
    mount,
    "type=tmpfs,target=/t,tmpfs-size=1m",
    [{ type: "tmpfs", source: null, target: "/t", readOnly: false, sizeBytes: 1 << 20 }],
  ],
  ["a time", (text) => timeOf(text, 100_000), "1m", 40_000],
  ["a time", (text) => timeOf(text, 0), "2026-01-02T13:23:37Z", Date.UTC(2026, 0, 2, 13, 23, 37)],
];
for (const [what, read, text, value] of right) test(`${what}: '${text}'`, (t) => t.deepEqual(read(text), value));

const wrong: [what: string, read: (text: string) => unknown, text: string, says: RegExp][] = [
  ["a size", bytes, "many", /a number and a unit/],
  ["CPUs", cpus, "-1", /a number of CPUs/],
  ["a label", label, "=x", /write KEY=VALUE/],
  ["a command line", commandLine, "sh 'x", /a quote is not closed/],
  ["a mount", mount, "type=bind,sorce=/a,target=/b", /'sorce' is not known; did you mean 'source'\?/],
  ["a mount", mount, "type=bnd,target=/b", /none of bind, volume, tmpfs; did you mean 'bind'\?/],
  ["a mount", mount, "type=bind,source=/a", /the target is missing/],
  ["a mount", mount, "type=bind,source,target=/a", /'source' has no value/],
  ["a mount", mount, "target=/a,readonly=maybe", /readonly is true or false/],
  ["a time", (text) => timeOf(text, 0), "yesterday", /a time is needed/],
];
for (const [what, read, text, says] of wrong) {
  test(`${what} that is none: '${text}'`, (t) => {
    t.regex(t.throws(() => read(text), { instanceOf: InvalidArgumentError }).message, says);
  });
}

test("a file of variables has comments, values of its own and of here", (t) => {
  const directory = temporaryDirectory("test");
  t.teardown(() => rmSync(directory, { recursive: true }));
  writeFileSync(join(directory, "env"), "# a comment\nA=1\n\n  B= x \nHERE\nNOT_HERE\n");
  t.deepEqual(variablesFile(join(directory, "env"), { HERE: "yes" }), [
    ["A", "1"],
    ["B", " x "],
    ["HERE", "yes"],
  ]);
  writeFileSync(join(directory, "wrong"), "A B=1\n");
  t.throws(() => variablesFile(join(directory, "wrong"), {}), { message: /a blank in the name of 'A B=1'/ });
  t.throws(() => variablesFile("/no/such", {}), { instanceOf: InvalidArgumentError });
});
