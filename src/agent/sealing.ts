// Whether this node can seal: OpenSSL with the standard's answers, a UDP port for sealed packets, and a TCP port for keys. A node that lacks
// one of them carries clear networks, and says why it takes no part in encrypted ones.
import { createSocket } from "node:dgram";
import { once } from "node:events";
import type { Node } from "../cluster/schema.ts";
import { messageOf, PlatformError } from "../lib/errors.ts";
import { AeadEngine } from "../linux/aead.ts";
import { checkAead } from "../linux/aead-check.ts";
import { PacketMemory } from "../packet/memory.ts";
import type { Host } from "./host.ts";
import { KeyListener } from "./key-listener.ts";
import type { AgentOptions } from "./options.ts";
import type { Parts } from "./parts.ts";

const CHECK_MEMORY_BYTES = 65_536;

/** What a node seals with. */
interface OpenSealing {
  /** As the cluster has them in the node's row. */
  ports: NonNullable<Node["sealed"]>;
  listener: KeyListener;
}

/** The reason why a node cannot seal, for a person. */
interface NoSealing {
  why: string;
}

export type Sealing = OpenSealing | NoSealing;

/** Takes the ports. Does not throw: a node that cannot seal goes on without. */
export async function openSealing(
  { config, identity, log }: Pick<AgentOptions, "config" | "identity" | "log">,
  { address }: Pick<Host, "address">,
  parts: Parts,
): Promise<Sealing> {
  const { sealedPort, keyPort } = config.vxlan;
  const refuse = (why: string): NoSealing => {
    log.warn("this node takes no part in encrypted networks", { reason: why });
    return { why };
  };
  if (identity.damage !== undefined) return refuse("it cannot show its peers who it is");
  try {
    checkAead(new AeadEngine(new PacketMemory(CHECK_MEMORY_BYTES)));
    await requireUdp(address, sealedPort);
    const listener = await openListener(address, keyPort);
    parts.add({ stop: () => listener.close() });
    return { ports: { port: sealedPort, keyPort }, listener };
  } catch (error) {
    if (!(error instanceof PlatformError)) throw error;
    return refuse(`${error.message}: ${error.mend}`);
  }
}

/** Throws PlatformError when another process, such as an IKE daemon, has the port. */
async function requireUdp(address: string, port: number): Promise<void> {
  const socket = createSocket("udp4");
  try {
    const listening = once(socket, "listening");
    socket.bind({ address, port, exclusive: true });
    await listening;
  } catch (cause) {
    throw taken("UDP", address, port, "vxlan.sealedPort", cause);
  } finally {
    socket.close();
  }
}

async function openListener(address: string, port: number): Promise<KeyListener> {
  try {
    return await KeyListener.open({ host: address, port });
  } catch (cause) {
    throw taken("TCP", address, port, "vxlan.keyPort", cause);
  }
}

function taken(protocol: "UDP" | "TCP", address: string, port: number, field: string, cause: unknown): PlatformError {
  const { code } = cause as NodeJS.ErrnoException;
  const reason = code === "EADDRINUSE" ? "another process has it" : messageOf(cause);
  const show = protocol === "UDP" ? "ss -lunp" : "ss -ltnp";
  return new PlatformError(
    `cannot listen on ${protocol} ${port} of ${address}: ${reason}`,
    `'${show}' shows who has it; free it, or set '${field}' to another, and restart overlayd`,
    { cause },
  );
}
