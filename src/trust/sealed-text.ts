// Texts that are encrypted at rest with AES-256-GCM: under a key (secrets in the managers' store), or under a passphrase by
// scrypt (CA keys on managers' disks, the secret part of an export).
import { createCipheriv, createDecipheriv, randomBytes, type ScryptOptions, scrypt } from "node:crypto";
import { TrustError } from "./trust-error.ts";

const CIPHER = "aes-256-gcm";
const KEY_BYTES = 32;
const NONCE_BYTES = 12;
const TAG_BYTES = 16;
const SALT_BYTES = 16;
const SEALED = "ovl-sealed-1";
const LOCKED = "ovl-locked-1";
/** 32 MiB and about 0.1 s for each guess. */
const SCRYPT: ScryptOptions = { N: 2 ** 15, r: 8, p: 1, maxmem: 64 * 1024 * 1024 };

/** A new key for `seal`, as text. */
export function createSealKey(): string {
  return randomBytes(KEY_BYTES).toString("base64url");
}

/**
 * The text, encrypted under `key`. `context` says what the text is, for example its row's kind and id: what is sealed for
 * one context does not open for another.
 */
export function seal(key: string, text: string, context: string): string {
  return `${SEALED}.${encrypt(keyBytes(key), text, context)}`;
}

/** Throws TrustError when the key or context is another, or the text was changed. */
export function open(key: string, sealed: string, context: string): string {
  const [kind, box] = sealed.split(".");
  if (kind !== SEALED || box === undefined) throw new TrustError("damaged", "this is no text that overlayd sealed");
  try {
    return decrypt(keyBytes(key), box, context);
  } catch (cause) {
    throw new TrustError("damaged", "a sealed text does not open: it was changed, or sealed with another key", {
      cause,
    });
  }
}

/** The text, encrypted under a passphrase. `context` as for `seal`. */
export async function lock(passphrase: string, text: string, context: string): Promise<string> {
  const salt = randomBytes(SALT_BYTES);
  const key = await deriveKey(passphrase, salt);
  return `${LOCKED}.${salt.toString("base64url")}.${encrypt(key, text, context)}`;
}

/** Throws TrustError when the passphrase or context is another, or the text was changed. */
export async function unlock(passphrase: string, locked: string, context: string): Promise<string> {
  const [kind, salt, box] = locked.trim().split(".");
  if (kind !== LOCKED || salt === undefined || box === undefined) {
    throw new TrustError("damaged", "this is no text that overlayd locked with a passphrase");
  }
  const key = await deriveKey(passphrase, Buffer.from(salt, "base64url"));
  try {
    return decrypt(key, box, context);
  } catch (cause) {
    throw new TrustError("damaged", "the passphrase is wrong, or what it locks was changed", { cause });
  }
}

function keyBytes(key: string): Buffer {
  const bytes = Buffer.from(key, "base64url");
  if (bytes.length !== KEY_BYTES)
    throw new TrustError("damaged", `a key has ${KEY_BYTES} bytes, and not ${bytes.length}`);
  return bytes;
}

function deriveKey(passphrase: string, salt: Buffer): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    scrypt(passphrase, salt, KEY_BYTES, SCRYPT, (error, key) => (error === null ? resolve(key) : reject(error)));
  });
}

/** Nonce, encrypted text and tag. */
function encrypt(key: Buffer, text: string, context: string): string {
  const nonce = randomBytes(NONCE_BYTES);
  const cipher = createCipheriv(CIPHER, key, nonce).setAAD(Buffer.from(context));
  const body = [cipher.update(text, "utf8"), cipher.final()];
  return Buffer.concat([nonce, ...body, cipher.getAuthTag()]).toString("base64url");
}

function decrypt(key: Buffer, box: string, context: string): string {
  const bytes = Buffer.from(box, "base64url");
  const decipher = createDecipheriv(CIPHER, key, bytes.subarray(0, NONCE_BYTES), { authTagLength: TAG_BYTES });
  decipher.setAAD(Buffer.from(context)).setAuthTag(bytes.subarray(-TAG_BYTES));
  const body = [decipher.update(bytes.subarray(NONCE_BYTES, -TAG_BYTES)), decipher.final()];
  return Buffer.concat(body).toString("utf8");
}
