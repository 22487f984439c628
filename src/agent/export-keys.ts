// Hands the keys with one peer to root of this node, who wants to read a capture. That is the only way that keys leave the agent.
import type { ExportedKeys } from "../api/schema.ts";
import { get } from "../api/views.ts";
import type { State } from "../cluster/tables.ts";
import { UserError } from "../lib/errors.ts";
import type { Log } from "../lib/log.ts";
import { peerOfSocket } from "../linux/socket-peer.ts";
import type { NodeKeys } from "./node-keys.ts";

interface ExportOptions {
  keys: NodeKeys;
  log: Log;
  /** The user at the other end of a socket; undefined: it is not known. */
  userAt?: (descriptor: number) => number | undefined;
}

interface ExportRequest {
  state: State;
  ownId: string | undefined;
  /** The name of a peer, or its id. */
  peer: string;
  descriptor: number;
}

/** Throws UserError 403 for another user than root, 404 for a word that is no node, 409 where there are no keys. */
export function exportKeys(
  { keys, log, userAt = (descriptor) => peerOfSocket(descriptor)?.user }: ExportOptions,
  { state, ownId, peer, descriptor }: ExportRequest,
): ExportedKeys {
  const user = userAt(descriptor);
  if (user !== 0) {
    throw new UserError(403, `keys are for root of this node alone, and not for user ${user ?? "unknown"}: use sudo`);
  }
  const own = state.nodes.get(ownId ?? "");
  const node = get(state, "nodes", peer);
  const agreed = keys.peers?.keysWith(node.id);
  if (own === undefined || agreed === undefined || agreed.sealing.length === 0) {
    const why = keys.whyNot ?? keys.peers?.view(node.id)?.reason ?? "it is this node, or cannot seal";
    throw new UserError(409, `there are no keys with node '${node.name}': ${why}`);
  }
  log.warn(
    "the keys with a peer were given to root, who can read what the two nodes send each other until they change",
    {
      peer: node.name,
      caller: "uid 0",
    },
  );
  const form = (source: string, destination: string) => (one: { spi: number; key: Uint8Array }) => ({
    ...{ source, destination, spi: one.spi },
    key: Buffer.from(one.key).toString("hex"),
  });
  return {
    ports: [own.sealed?.port ?? 0, node.sealed?.port ?? 0],
    associations: [
      ...agreed.sealing.map(form(own.address, node.address)),
      ...agreed.opening.map(form(node.address, own.address)),
    ],
  };
}
