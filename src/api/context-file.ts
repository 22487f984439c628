// The file of `overlayctl user add`: where a cluster's managers are, whose certificates they have, and the user's own
// certificate with its private key. YAML, so that a person can read what it is.
import { chmodSync, chownSync, readFileSync, realpathSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { parseDocument, stringify } from "yaml";
import { z } from "zod";
import { messageOf, UserError } from "../lib/errors.ts";
import { HostPort } from "../lib/host-port.ts";

const OTHERS = 0o077;
const Pem = z.string().startsWith("-----BEGIN ", "no PEM");

const UserContext = z.strictObject({
  user: z.string(),
  cluster: z.string(),
  /** Those of the day when the file was made, and what its owner wrote. */
  managers: z.array(HostPort).min(1, "no manager is named"),
  /** Those that the cluster has named last; `overlayctl` keeps them. */
  currentManagers: z.array(HostPort).default([]),
  bundle: z.array(Pem).min(1, "no certificate authority is named"),
  certificate: Pem,
  key: Pem,
});
type UserContext = z.output<typeof UserContext>;

const MODE_BITS = 0o777;

/** The file's text. */
export function contextFile({
  user,
  cluster,
  managers,
  bundle,
  certificate,
  key,
}: Omit<UserContext, "currentManagers">): string {
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

/**
 * Keeps in the file which managers the cluster has now, beside those that its owner wrote. Everything else of it stays, its owner
 * and who may read it too. Throws what keeps it from being written.
 */
export function keepManagers(path: string, managers: readonly string[]): void {
  const file = realpathSync(path);
  const { mode, uid, gid } = statSync(file);
  const document = parseDocument(readFileSync(file, "utf8"));
  document.set("currentManagers", [...managers]);
  const unfinished = `${file}.${process.pid}.new`;
  try {
    writeFileSync(unfinished, document.toString({ lineWidth: 0 }), { flag: "wx", mode: 0o600 });
    chownSync(unfinished, uid, gid);
    chmodSync(unfinished, mode & MODE_BITS);
    renameSync(unfinished, file);
  } catch (error) {
    rmSync(unfinished, { force: true });
    throw error;
  }
}
