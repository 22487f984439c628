// The house rules that a program can check: who may import whom (a table), and what every source file has.
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join, relative } from "node:path";
import test from "ava";

const SRC = "src";

/** Folder to the folders it may import; `T:` marks types only. */
const MAY_IMPORT: Record<string, readonly string[]> = {
  lib: [],
  trust: ["lib"],
  packet: ["lib"],
  linux: ["lib", "packet", "T:datapath"],
  datapath: ["lib", "packet"],
  express: ["lib", "packet", "linux", "T:datapath"],
  worker: ["lib", "packet", "linux", "datapath", "express", "links"],
  cluster: ["lib"],
  leader: ["lib", "cluster", "trust"],
  session: ["lib", "cluster", "trust"],
  dns: ["lib", "cluster", "T:datapath"],
  mesh: ["lib", "T:cluster"],
  links: ["lib", "linux"],
  runtime: ["lib", "T:cluster"],
  attach: ["lib", "cluster", "runtime"],
  plugin: ["lib", "api"],
  api: ["lib", "cluster", "trust"],
  agent: [
    ...[
      "lib",
      "trust",
      "packet",
      "linux",
      "datapath",
      "express",
      "worker",
      "cluster",
      "leader",
      "session",
      "dns",
      "mesh",
      "links",
      "runtime",
    ],
    ...["attach", "plugin", "api"],
  ],
  cli: ["lib", "api", "trust"],
};

/** Packages that only these folders may import. */
const OWN_PACKAGES: Record<string, readonly string[]> = {
  koffi: ["linux"],
  lmdb: ["leader"],
  "dns-packet": ["dns"],
  commander: ["cli", "agent"],
  dockerode: ["runtime"],
  "@peculiar/x509": ["trust"],
  "reflect-metadata": ["trust"],
};

interface Import {
  specifier: string;
  /** Erased by the compiler. `import { type A }` is not: it still loads the module. */
  typeOnly: boolean;
}

const STATEMENT = /^\s*(import|export)\s+(type\s+(?=[{*\w]))?(?:[^'"`;]*?\bfrom\s*)?["']([^"']+)["']/gm;
const DYNAMIC = /\b(?:import|require)\(\s*["']([^"']+)["']\s*\)/g;
const WORKER = /new URL\(\s*["'](\.[^"']+\.[jt]s)["']/g;
const WORKER_FILE = /new URL\(\s*["']([^"']+)\.[jt]s["'],\s*import\.meta\.url/g;

function importsOf(source: string): Import[] {
  const statements = [...source.matchAll(STATEMENT)].map(([, , type, specifier]) => ({
    specifier: specifier!,
    typeOnly: type !== undefined,
  }));
  const others = [...source.matchAll(DYNAMIC), ...source.matchAll(WORKER)];
  return [...statements, ...others.map(([, specifier]) => ({ specifier: specifier!, typeOnly: false }))];
}

function folderOf(path: string): string {
  return relative(SRC, path).split("/")[0]!;
}

function violationsOf(path: string, source: string): string[] {
  const folder = folderOf(path);
  const allowed = MAY_IMPORT[folder];
  if (allowed === undefined) return [`${path}: the table has no folder '${folder}'`];
  return importsOf(source).flatMap(({ specifier, typeOnly }) => {
    if (!specifier.startsWith(".")) {
      const owners = OWN_PACKAGES[specifier];
      if (owners === undefined || owners.includes(folder)) return [];
      return [`${path}: only ${owners.join(" and ")} may import ${specifier}`];
    }
    const target = folderOf(join(path, "..", specifier));
    if (target === folder || allowed.includes(target)) return [];
    if (allowed.includes(`T:${target}`)) {
      return typeOnly ? [] : [`${path}: may import types only from ${target} (import type), not ${specifier}`];
    }
    return [`${path}: ${folder} may not import ${target} (${specifier})`];
  });
}

const sources = readdirSync(SRC, { recursive: true, encoding: "utf8" })
  .filter((name) => name.endsWith(".ts"))
  .map((name) => join(SRC, name))
  .map((path) => ({ path, source: readFileSync(path, "utf8") }));

const CASES: [title: string, path: string, source: string, violations: number][] = [
  ["a folder imports itself", "src/dns/a.ts", 'import { b } from "./b.ts";', 0],
  ["a folder imports lib", "src/dns/a.ts", 'import { b } from "../lib/ip.ts";', 0],
  ["types from a folder marked T:", "src/mesh/a.ts", 'import type { State } from "../cluster/schema.ts";', 0],
  ["values from a folder marked T:", "src/mesh/a.ts", 'import { KINDS } from "../cluster/schema.ts";', 1],
  ["an inline type from a folder marked T:", "src/mesh/a.ts", 'import { type S } from "../cluster/schema.ts";', 1],
  ["an import over several lines", "src/datapath/a.ts", 'import {\n  a,\n  b,\n} from "../cluster/schema.ts";', 1],
  ["an import for its effects", "src/lib/a.ts", 'import "../packet/ip.ts";', 1],
  ["something exported from elsewhere", "src/lib/a.ts", 'export * from "../packet/ip.ts";', 1],
  ["a dynamic import", "src/lib/a.ts", 'const a = await import("../packet/ip.ts");', 1],
  ["a worker's module", "src/datapath/a.ts", 'new Worker(new URL("../agent/w.ts", import.meta.url))', 1],
  ["a package of another folder", "src/datapath/a.ts", 'import koffi from "koffi";', 1],
  ["a package of its own", "src/linux/a.ts", 'import koffi from "koffi";', 0],
  ["the standard library", "src/lib/a.ts", 'import { join } from "node:path";', 0],
  ["a folder that the table does not have", "src/utils/a.ts", "", 1],
];
for (const [title, path, source, violations] of CASES) {
  test(`the check ${violations === 0 ? "allows" : "refuses"} ${title}`, (t) => {
    t.is(violationsOf(path, source).length, violations);
  });
}

test("folders import only what the design's table allows", (t) => {
  t.deepEqual(
    sources.flatMap(({ path, source }) => violationsOf(path, source)),
    [],
  );
});

test("every module that a thread is started with is there", (t) => {
  const missing = sources.flatMap(({ path, source }) =>
    [...source.matchAll(WORKER_FILE)].filter(([, name]) => !existsSync(join(path, "..", `${name}.ts`))),
  );
  t.deepEqual(missing, []);
});

test("every source file begins with a line that says what it is", (t) => {
  const silent = sources.filter(({ source }) => {
    const [first = "", second = ""] = source.split("\n");
    return !/^\/[/*]/.test(first.startsWith("#!") ? second : first);
  });
  t.deepEqual(
    silent.map(({ path }) => path),
    [],
  );
});

const FORBIDDEN: [what: string, pattern: RegExp, allowed: RegExp][] = [
  ["console output, except where a person is spoken to", /\bconsole\.\w+\(/, /^src\/(cli\/|agent\/main\.ts)/],
  ["the time of the system, except through lib/clock", /\b(Date|performance)\.now\(/, /^src\/lib\/clock\.ts/],
  ["chance, except through lib/random", /\bMath\.random\b/, /^src\/lib\/random\.ts/],
  ["default exports", /^export default\b/m, /^$/],
];
for (const [what, pattern, allowed] of FORBIDDEN) {
  test(`no source file has ${what}`, (t) => {
    const found = sources.filter(({ path, source }) => pattern.test(source) && !allowed.test(path));
    t.deepEqual(
      found.map(({ path }) => path),
      [],
    );
  });
}

/** Path to the paths of the files of src that it imports, types included. */
const IMPORTS = new Map(
  sources.map(({ path, source }) => {
    const relatives = importsOf(source).filter(({ specifier }) => specifier.startsWith("."));
    return [path, relatives.map(({ specifier }) => join(path, "..", specifier))];
  }),
);

/** The circles in a graph of imports, each as the files on the way round: a search in depth from each file. */
function circlesIn(imports: ReadonlyMap<string, readonly string[]>): string[][] {
  const circles: string[][] = [];
  const done = new Set<string>();
  const way: string[] = [];
  const visit = (path: string): void => {
    const start = way.indexOf(path);
    if (start >= 0) circles.push([...way.slice(start), path]);
    if (start >= 0 || done.has(path)) return;
    way.push(path);
    for (const next of imports.get(path) ?? []) visit(next);
    way.pop();
    done.add(path);
  };
  for (const path of imports.keys()) visit(path);
  return circles;
}

test("a circle of imports is found", (t) => {
  const imports = new Map([
    ["a", ["b", "c"]],
    ["b", ["c"]],
    ["c", ["d"]],
    ["d", ["b"]],
  ]);
  t.deepEqual(circlesIn(imports), [["b", "c", "d", "b"]]);
  t.deepEqual(
    circlesIn(
      new Map([
        ["a", ["b"]],
        ["b", []],
      ]),
    ),
    [],
  );
});

test("no files import each other in a circle, types included", (t) => {
  t.deepEqual(circlesIn(IMPORTS), []);
});

const EXPORT =
  /^export (?:declare |abstract |async )*(?:const|function\*?|class|interface|type|let|enum) (\w+)|^export \{([^}]*)\}/gm;

/** Names that a file exports. */
function exportsOf(source: string): string[] {
  return [...source.matchAll(EXPORT)].flatMap(([, name, list]) =>
    name === undefined ? list!.split(",").flatMap((one) => /(\w+)\s*$/.exec(one)?.[1] ?? []) : [name],
  );
}

test("the exports of a file are found", (t) => {
  const source =
    "export const a = 1;\nexport async function b() {}\nexport { c, d as e };\nexport type F = 1;\nconst g = 2;";
  t.deepEqual(exportsOf(source), ["a", "b", "c", "e", "F"]);
});

test("what a file exports, another file uses", (t) => {
  const users = ["src", "test", "bench", "scripts", "configs"].flatMap((folder) =>
    readdirSync(folder, { recursive: true, encoding: "utf8" })
      .filter((name) => /\.(ts|mjs)$/.test(name))
      .map((name) => join(folder, name)),
  );
  // BOUNDED: by the words of the tree; keyed by word. The files in which it stands, two at most.
  const files = new Map<string, string[]>();
  for (const path of users) {
    for (const word of new Set(readFileSync(path, "utf8").match(/\w+/g))) {
      const known = files.get(word) ?? [];
      if (known.length < 2) files.set(word, [...known, path]);
    }
  }
  const unused = sources.flatMap(({ path, source }) =>
    exportsOf(source)
      .filter((name) => !files.get(name)!.some((other) => other !== path))
      .map((name) => `${path}: ${name}`),
  );
  t.deepEqual(unused, []);
});
