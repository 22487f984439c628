// The log of writes: who, what, from where, and what came of it. One line a write.
import type { Command } from "../cluster/commands.ts";
import { messageOf } from "../lib/errors.ts";
import type { Log } from "../lib/log.ts";
import { shortened } from "../lib/shortened.ts";
import type { Peer } from "./authority.ts";

/** Characters of what a peer says of who asked it. */
export const MAX_BY = 200;

interface Write {
  peer: Peer;
  /** Who asked the peer for it, as the peer says; undefined: the peer itself. */
  by?: string | undefined;
  command: Pick<Command, "type"> | { type: "node.join" | "node.renew"; name?: string };
}

/** Does the write, and logs it, also when it fails. */
export async function logWrite<T>(log: Log, write: Write, run: () => Promise<T>): Promise<T> {
  const { peer, by, command } = write;
  const { kind, name } = peer.subject;
  const fields = {
    caller: by === undefined ? `${kind} ${name}` : `${shortened(by, MAX_BY)} on ${kind} ${name}`,
    address: peer.from ?? "this process",
    command: command.type,
    object: objectOf(command),
  };
  try {
    const result = await run();
    log.info("a write was carried out", { ...fields, result: "done" });
    return result;
  } catch (error) {
    log.info("a write was refused", { ...fields, result: messageOf(error) });
    throw error;
  }
}

/** What it is about: the name or id that the command gives. */
function objectOf(command: object): string {
  const { name, id, subject, role, node } = command as Record<string, unknown>;
  return String(name ?? id ?? subject ?? role ?? node ?? "");
}
