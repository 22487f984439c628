// The credentials for a registry, from Docker's client configuration.
import { readFileSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { messageOf, UserError } from "./errors.ts";

/** How Docker's configuration names its own registry. */
const DOCKER_HUB = "https://index.docker.io/v1/";

interface Entry {
  /** Base64 of USER:PASSWORD. */
  auth?: string;
  username?: string;
  password?: string;
  identitytoken?: string;
}

/** HOST[:PORT] of the registry that has the image; Docker Hub's when the image names none. */
export function registryOf(image: string): string {
  const [first, ...rest] = image.split("/");
  const isHost = rest.length > 0 && (/[.:]/.test(first!) || first === "localhost");
  return isHost ? first! : "docker.io";
}

/**
 * The value of X-Registry-Auth for pulling the image; null when the configuration has nothing for its registry.
 * Throws UserError when the configuration cannot be read, or keeps the password where only a helper can get it.
 */
export function registryAuthFor(image: string, environment: NodeJS.ProcessEnv): string | null {
  const path = join(environment.DOCKER_CONFIG ?? join(environment.HOME ?? homedir(), ".docker"), "config.json");
  const config = readConfig(path);
  const registry = registryOf(image);
  const serveraddress = registry === "docker.io" ? DOCKER_HUB : registry;
  const helpers = config.credHelpers ?? {};
  const helper = Object.hasOwn(helpers, serveraddress) ? helpers[serveraddress] : undefined;
  const key = Object.keys(config.auths ?? {}).find((name) => hostOf(name) === hostOf(serveraddress));
  const entry = key === undefined ? undefined : config.auths![key]!;
  if (helper !== undefined || (entry !== undefined && isEmpty(entry))) {
    const what = `the password for ${registry} is kept by a credential helper, which overlayd does not ask`;
    throw new UserError(400, `${path}: ${what}; 'docker login' without one writes it to the file`);
  }
  if (entry === undefined) return null;
  const { username, password } = credentialsOf(entry, path, registry);
  const { identitytoken } = entry;
  const auth = identitytoken ? { identitytoken, serveraddress } : { username, password, serveraddress };
  // The padding stays: Docker ignores a header without it, and pulls without credentials.
  return Buffer.from(JSON.stringify(auth)).toString("base64").replaceAll("+", "-").replaceAll("/", "_");
}

function readConfig(path: string): { auths?: Record<string, Entry>; credHelpers?: Record<string, string> } {
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return {};
    throw new UserError(400, `cannot read ${path}: ${messageOf(error)}`, { cause: error });
  }
  try {
    return JSON.parse(text) as ReturnType<typeof readConfig>;
  } catch (cause) {
    throw new UserError(400, `${path} is not JSON: ${messageOf(cause)}`, { cause });
  }
}

/** The host of "https://registry.example/v2/" or of "registry.example". */
function hostOf(server: string): string {
  return server.replace(/^https?:\/\//, "").replace(/\/.*$/, "");
}

function isEmpty({ auth, username, identitytoken }: Entry): boolean {
  return !auth && !username && !identitytoken;
}

function credentialsOf(entry: Entry, path: string, registry: string): { username?: string; password?: string } {
  if (!entry.auth) return entry;
  const [, username, password] = /^([^:]+):(.*)$/s.exec(Buffer.from(entry.auth, "base64").toString()) ?? [];
  if (username === undefined || password === undefined)
    throw new UserError(400, `${path}: 'auth' for ${registry} is not base64 of USER:PASSWORD`);
  return { username, password: password.replace(/\0+$/, "") };
}
