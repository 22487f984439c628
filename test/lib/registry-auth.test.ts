// Credentials from Docker's client configuration, by rows.
import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import test from "ava";
import { UserError } from "../../src/lib/errors.ts";
import { registryAuthFor, registryOf } from "../../src/lib/registry-auth.ts";
import { temporaryDirectory } from "../temporary.ts";

const registries: [image: string, registry: string][] = [
  ["elasticsearch:2", "docker.io"],
  ["library/elasticsearch", "docker.io"],
  ["registry.example/a/b:1", "registry.example"],
  ["127.0.0.1:5000/a", "127.0.0.1:5000"],
  ["localhost/a", "localhost"],
];
for (const [image, registry] of registries)
  test(`${image} is of ${registry}`, (t) => t.is(registryOf(image), registry));

const AUTH = Buffer.from("me:pass:word").toString("base64");
const HUB = "https://index.docker.io/v1/";

const found: [title: string, config: object, image: string, auth: object | null][] = [
  ["nothing", {}, "a", null],
  [
    "Docker Hub's entry",
    { auths: { [HUB]: { auth: AUTH } } },
    "a:1",
    { username: "me", password: "pass:word", serveraddress: HUB },
  ],
  [
    "an entry that is written as a URL",
    { auths: { "https://r.example/v2/": { username: "me", password: "x" } } },
    "r.example/a",
    { username: "me", password: "x", serveraddress: "r.example" },
  ],
  [
    "a token",
    { auths: { "r.example": { auth: AUTH, identitytoken: "t" } } },
    "r.example/a",
    { identitytoken: "t", serveraddress: "r.example" },
  ],
  ["another registry's entry", { auths: { "other.example": { auth: AUTH } } }, "r.example/a", null],
];

const refused: [title: string, config: string, says: RegExp][] = [
  ["a file that is no JSON", "{", /config\.json is not JSON/],
  ["a helper", JSON.stringify({ credHelpers: { "r.example": "pass" } }), /kept by a credential helper/],
  [
    "an entry that a helper fills",
    JSON.stringify({ auths: { "r.example": {} }, credsStore: "pass" }),
    /credential helper/,
  ],
  [
    "what is no user and password",
    JSON.stringify({ auths: { "r.example": { auth: "eHg=" } } }),
    /not base64 of USER:PASSWORD/,
  ],
];

function written(config: string): { environment: NodeJS.ProcessEnv; remove: () => void } {
  const directory = temporaryDirectory("test");
  writeFileSync(join(directory, "config.json"), config);
  return { environment: { DOCKER_CONFIG: directory }, remove: () => rmSync(directory, { recursive: true }) };
}

for (const [title, config, image, auth] of found) {
  test(`found for ${image}: ${title}`, (t) => {
    const { environment, remove } = written(JSON.stringify(config));
    t.teardown(remove);
    const header = registryAuthFor(image, environment);
    t.deepEqual(header === null ? null : JSON.parse(Buffer.from(header, "base64url").toString()), auth);
  });
}

for (const username of ["u", "us", "use"]) {
  test(`the header has its padding, without which the engine takes it for none: for '${username}'`, (t) => {
    const auth = Buffer.from(`${username}:secret`).toString("base64");
    const { environment, remove } = written(JSON.stringify({ auths: { "r.example": { auth } } }));
    t.teardown(remove);
    const header = registryAuthFor("r.example/a:1", environment)!;
    t.is(header.length % 4, 0);
    t.regex(header, /^[\w-]+=*$/);
  });
}

for (const [title, config, says] of refused) {
  test(`refused: ${title}`, (t) => {
    const { environment, remove } = written(config);
    t.teardown(remove);
    const error = t.throws(() => registryAuthFor("r.example/a", environment), { instanceOf: UserError });
    t.regex(error.message, says);
  });
}

test("without a configuration there are no credentials", (t) =>
  t.is(registryAuthFor("a", { HOME: "/no/such/directory" }), null));
