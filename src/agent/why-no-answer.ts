// Why a peer's port for keys gave no secure connection, in words for a person: what failed, where, and what to do.
import { messageOf } from "../lib/errors.ts";
import { serverRefusal } from "../trust/refusals.ts";

interface Dialled {
  address: string;
  keyPort: number;
}

/** `now` is this machine's wall clock. */
export function whyNoAnswer(cause: unknown, { address, keyPort }: Dialled, now: number): Error {
  const at = `TCP ${keyPort} at ${address}`;
  const refusal = serverRefusal(cause, now);
  if (refusal !== undefined) return new Error(`${at}: ${refusal.message}`, { cause });
  const { code } = cause as NodeJS.ErrnoException;
  const reason = code === undefined ? messageOf(cause) : (WORDS[code] ?? messageOf(cause));
  return new Error(`${at}: ${reason}`, { cause });
}

const WORDS: Readonly<Record<string, string>> = {
  ECONNREFUSED: "nothing listens there: its agent is down, or has another 'vxlan.keyPort'",
  ECONNRESET: "the peer closed the connection at once: it does not know this node's address yet, or a firewall did it",
  EHOSTUNREACH: "no way leads there: look at 'ip route get', and at a firewall that refuses it",
  ENETUNREACH: "no way leads there: look at 'ip route get'",
  ETIMEDOUT: "nothing answers: the machine is down, or a firewall blocks the port",
};
