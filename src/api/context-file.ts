// The file of `overlayctl user add`: where a cluster's managers are, whose certificates they have, and the user's own
// certificate with its private key. YAML, so that a person can read what it is.
import { readFileSync, statSync } from "node:fs";
import { parseDocument, stringify } from "yaml";
import { z } from "zod";
import { messageOf, UserError } from "../lib/errors.ts";
import { HostPort } from "../lib/host-port.ts";

const OTHERS = 0o077;
const Pem = z.string().startsWith("-----BEGIN ", "no PEM");

const UserContext = z.strictObject({
  user: z.string(),
  cluster: z.string(),
  managers: z.array(HostPort).min(1, "no manager is named"),
  bundle: z.array(Pem).min(1, "no certificate authority is named"),
  certificate: Pem,
  key: Pem,
});
type UserContext = z.output<typeof UserContext>;

/** The file's text. */
export function contextFile({ user, cluster, managers, bundle, certificate, key }: UserContext): string {
  return `# 'overlayctl --context FILE ...' acts as user ${user}. Who has this file may do all to the cluster: chmod 600 it.\n${stringify({ user, cluster, managers, bundle, certificate, key })}`;
}

/** Reads the file. `isOpen`: users besides its owner may read it. Throws UserError that names the file. */
export function readContextFile(path: string): { context: UserContext; isOpen: boolean } {
  const wrong = (reason: string, cause?: unknown): never => {
    throw new UserError(400, `--context: ${path}: ${reason}`, { cause });
  };
  let [text, mode] = ["", 0];
  try {
    text = readFileSync(path, "utf8");
    ({ mode } = statSync(path));
  } catch (error) {
    wrong(`cannot read it: ${messageOf(error)}`, error);
  }
  const document = parseDocument(text, { prettyErrors: false });
  if (document.errors[0] !== undefined) wrong(`it is no YAML: ${document.errors[0].message}`);
  const content: unknown = document.toJS();
  if (content === null) wrong("it is empty; 'overlayctl user add NAME' on a manager makes such a file");
  const { success, data, error } = UserContext.safeParse(content);
  if (success) return { context: data, isOpen: (mode & OTHERS) !== 0 };
  const issue = error.issues[0]!;
  const field = issue.path.join(".");
  return wrong(
    `${field === "" ? "" : `${field}: `}${issue.message}; 'overlayctl user add NAME' on a manager makes such a file`,
  );
}
