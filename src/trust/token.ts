// Join tokens: `ovl-1-DIGEST-SECRET`. The digest is that of the CA's public key: with it a node knows the cluster's managers
// before it has a certificate. The secret says to the managers that the node may join, and as what.
import { counted } from "../lib/counted.ts";
import { UserError } from "../lib/errors.ts";
import { newId } from "../lib/random.ts";
import { DIGEST_LENGTH } from "./certificates.ts";

interface JoinToken {
  /** As `publicKeyDigest` gives it. */
  readonly digest: string;
  readonly secret: string;
}

const PREFIX = "ovl-1-";
const SECRET_LENGTH = 25;
const TOKEN_LENGTH = PREFIX.length + DIGEST_LENGTH + 1 + SECRET_LENGTH;
const TOKEN = new RegExp(`^${PREFIX}([a-z0-9]{${DIGEST_LENGTH}})-([a-z0-9]{${SECRET_LENGTH}})$`);

/** A new secret: 129 bits that cannot be guessed. */
export function createSecret(): string {
  return newId();
}

export function formatToken({ digest, secret }: JoinToken): string {
  return `${PREFIX}${digest}-${secret}`;
}

/** Throws UserError 400, which says whether the token was cut, or is something else. */
export function parseToken(text: string): JoinToken {
  const trimmed = text.trim();
  const [, digest, secret] = TOKEN.exec(trimmed) ?? [];
  if (digest !== undefined && secret !== undefined) return { digest, secret };
  const again = "'overlayctl join-token worker' on a manager prints it again";
  const fail = (message: string) => new UserError(400, `${message}; ${again}`, { field: "token" });
  if (trimmed === "") throw fail("the join token is empty");
  if (!trimmed.startsWith("ovl-")) throw fail("this is no join token: one begins with 'ovl-1-'");
  if (!trimmed.startsWith(PREFIX)) throw fail("the join token is of another version of overlayd");
  if (trimmed.length !== TOKEN_LENGTH) {
    const isCut = trimmed.length < TOKEN_LENGTH;
    throw fail(
      `the join token is ${isCut ? "cut" : "too long"}: it has ${counted(trimmed.length, "character")} of ${TOKEN_LENGTH}`,
    );
  }
  throw fail("the join token has characters that no token has");
}
