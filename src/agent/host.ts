// What the agent takes of its machine before all else: the TUN's name for itself alone, the data directory, and the link
// to the other nodes.
import { systemClock } from "../lib/clock.ts";
import { PlatformError } from "../lib/errors.ts";
import { LocalAddresses } from "../links/local-addresses.ts";
import { lockDevice } from "../linux/lock.ts";
import { ownDataDirectory } from "./data-directory.ts";
import type { AgentOptions } from "./options.ts";
import type { Parts } from "./parts.ts";
import { findUnderlayLink } from "./underlay-link.ts";

export interface Host {
  /** The VTEP. */
  address: string;
  /** The overlay's MTU. */
  mtu: number;
  localAddresses: LocalAddresses;
}

/** Throws PlatformError when another agent has the device, or the machine lacks something. */
export async function claimHost(
  { config, identity, log, newEpoch = false }: AgentOptions,
  parts: Parts,
): Promise<Host> {
  const { device } = config;
  const lock = lockDevice(device, log);
  parts.add({ stop: () => lock.release() });
  const { address, overlayMtu } = await findUnderlayLink(config.node.address);
  const localAddresses = new LocalAddresses({ log, clock: systemClock, device });
  parts.add({ stop: () => localAddresses.close() });
  await ownDataDirectory(config.dataDir, log);
  if (newEpoch && identity.role !== "manager") {
    throw new PlatformError("a new epoch is for the manager whose store was restored", "this node is a worker");
  }
  return { address, mtu: config.vxlan.mtu ?? overlayMtu, localAddresses };
}
