// What is said to a registry, from Docker's client configuration.
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test, { type ExecutionContext } from "ava";
import { UserError } from "../../src/lib/errors.ts";
import { registryAuthFor, registryOf } from "../../src/lib/registry-auth.ts";

/** The environment of a user whose config.json says this; without one, there is no file. */
function userWith(t: ExecutionContext, config?: string | object): NodeJS.ProcessEnv {
  const home = mkdtempSync(join(tmpdir(), "overlayd-docker-"));
  t.teardown(() => rmSync(home, { recursive: true }));
  const text = typeof config === "string" ? config : JSON.stringify(config);
  if (config !== undefined) writeFileSync(join(home, "config.json"), text);
  return { DOCKER_CONFIG: home };
}

function read(header: string | null): unknown {
  return header === null ? null : JSON.parse(Buffer.from(header, "base64url").toString());
}

const basic = (text: string): { auth: string } => ({ auth: Buffer.from(text).toString("base64") });
const HUB = "https://index.docker.io/v1/";

const REGISTRIES: [image: string, registry: string][] = [
  ["nginx", "docker.io"],
  ["nginx:1.27", "docker.io"],
  ["library/nginx", "docker.io"],
  ["registry.example/app", "registry.example"],
  ["registry.example:5000/team/app:1", "registry.example:5000"],
  ["localhost/app", "localhost"],
];
for (const [image, registry] of REGISTRIES) {
  test(`${image} is ${registry}'s`, (t) => t.is(registryOf(image), registry));
}

const FOUND: [name: string, image: string, config: object, said: object][] = [
  [
    "a user and a password",
    "registry.example/app",
    { auths: { "registry.example": basic("ann:se:cret") } },
    { username: "ann", password: "se:cret", serveraddress: "registry.example" },
  ],
  [
    "Docker's own registry",
    "nginx",
    { auths: { [HUB]: basic("ann:secret") } },
    { username: "ann", password: "secret", serveraddress: HUB },
  ],
  [
    "a registry that is written as an address",
    "registry.example/app",
    { auths: { "https://registry.example/v2/": basic("ann:secret") } },
    { username: "ann", password: "secret", serveraddress: "registry.example" },
  ],
  [
    "an identity token",
    "registry.example/app",
    { auths: { "registry.example": { ...basic("ann:"), identitytoken: "token" } } },
    { identitytoken: "token", serveraddress: "registry.example" },
  ],
];
for (const [name, image, config, said] of FOUND) {
  test(`the configuration has ${name}`, (t) => {
    t.deepEqual(read(registryAuthFor(image, userWith(t, config))), said);
  });
}

test("nothing is said when nothing is known", (t) => {
  t.is(registryAuthFor("registry.example/app", userWith(t)), null);
  t.is(registryAuthFor("registry.example/app", userWith(t, {})), null);
  const other = userWith(t, { auths: { "other.example": basic("ann:secret") } });
  t.is(registryAuthFor("registry.example/app", other), null);
});

const REFUSED: [name: string, config: string | object, message: RegExp][] = [
  ["that is not JSON", "{", /config\.json is not JSON: /],
  [
    "whose password is with a helper",
    { credHelpers: { "registry.example": "pass" } },
    /credential helper.*docker login/,
  ],
  ["that leaves the password to a store", { auths: { "registry.example": {} } }, /credential helper/],
  ["whose auth has no password", { auths: { "registry.example": basic("ann") } }, /not base64 of USER:PASSWORD/],
];
for (const [name, config, message] of REFUSED) {
  test(`a configuration ${name} is the user's to mend`, (t) => {
    const error = t.throws(() => registryAuthFor("registry.example/app", userWith(t, config)), {
      instanceOf: UserError,
      message,
    });
    t.is(error?.code, 400);
  });
}
