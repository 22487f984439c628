// What a host sends to a manager that has got hold of certificates, or makes its own: requests as they are on the wire,
// without an agent. And what is on a node's disk of its certificates.
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { subjectOf } from "../../src/trust/certificates.ts";
import { IdentityFiles, type ManagerKeys, type StoredIdentity } from "../../src/trust/identity-files.ts";
import { unlockManagerKeys } from "../../src/trust/passphrase.ts";
import { curlBriefly } from "./command.ts";
import type { LabHost, LabNode } from "./lab.ts";

/** A certificate and its key, in PEM. */
export interface Shown {
  certificate: string;
  key: string;
}

export interface Answer {
  /** The HTTP status; 0: there was none, TLS ended the connection. */
  status: number;
  /** What the answer says, or what curl says of the connection. */
  message: string;
}

/** Sends a request from `from` to a manager, which it does not check; `shown` undefined: without a certificate. */
export async function ask(
  from: LabHost,
  { manager, path, body, shown }: { manager: LabNode; path: string; body?: object; shown: Shown | undefined },
): Promise<Answer> {
  const options = ["-k", "--show-error", "-w", "\n%{http_code}"];
  if (body !== undefined) options.push("-H", "content-type: application/json", "-d", JSON.stringify(body));
  if (shown !== undefined) {
    const directory = join(manager.directory, "..", "shown");
    mkdirSync(directory, { recursive: true });
    for (const name of ["certificate", "key"] as const) writeFileSync(join(directory, name), shown[name]);
    options.push("--cert", join(directory, "certificate"), "--key", join(directory, "key"));
  }
  const { stdout, stderr } = await from.tryExec(curlBriefly(...options, `https://${manager.address}:2377${path}`));
  const lines = stdout.split("\n");
  const status = Number(lines.at(-1));
  return { status, message: status === 0 ? stderr : lines.slice(0, -1).join("\n") };
}

export async function identityOf(node: LabNode): Promise<StoredIdentity & NodeFacts> {
  const stored = (await filesOf(node).read())!;
  const { clusterId, id: nodeId, name } = subjectOf(stored.certificate);
  return { ...stored, clusterId, nodeId, name };
}

/** What a certificate says of its node. */
interface NodeFacts {
  clusterId: string;
  nodeId: string;
  name: string;
}

/** Its node's own files; a test may change them while the agent is stopped. */
export function filesOf(node: LabNode): IdentityFiles {
  return new IdentityFiles(directoryOf(node));
}

function directoryOf(node: LabNode): string {
  return join(node.directory, "data", "identity");
}

/** What a manager signs with. */
export async function keysOf(manager: LabNode): Promise<ManagerKeys> {
  const { keys } = await unlockManagerKeys(filesOf(manager), directoryOf(manager), undefined);
  return keys!;
}
