// The link that carries the overlay: found by the node's address, or the one with the default route.
import { OVERHEAD_BYTES } from "../datapath/encapsulate.ts";
import { run } from "../lib/command.ts";
import { PlatformError } from "../lib/errors.ts";
import { linkAddresses } from "../lib/link-addresses.ts";
import { mtuOf } from "../linux/interfaces.ts";

interface AddressJson {
  ifname: string;
  mtu: number;
  addr_info: { family: string; local: string }[];
}

interface UnderlayLink {
  address: string;
  /** Bytes of the largest IP packet of the overlay that fits the link once it is encapsulated. */
  overlayMtu: number;
}

/** Throws PlatformError when no link has the address, or there is no default route to take one from. */
export async function findUnderlayLink(configured: string | undefined): Promise<UnderlayLink> {
  return (configured === undefined ? undefined : runningLink(configured)) ?? askForLink(configured);
}

/** Finds the link without starting a process, for an agent that is started again. undefined: no running link has the address. */
function runningLink(address: string): UnderlayLink | undefined {
  const found = linkAddresses().find((own) => own.address === address);
  const mtu = found === undefined ? undefined : mtuOf(found.link);
  return mtu === undefined ? undefined : { address, overlayMtu: mtu - OVERHEAD_BYTES };
}

async function askForLink(configured: string | undefined): Promise<UnderlayLink> {
  const links = JSON.parse(await run(["ip", "-json", "-4", "address", "show"])) as AddressJson[];
  if (configured === undefined) {
    const device = await defaultRouteDevice();
    const link = links.find(({ ifname }) => ifname === device);
    const address = link?.addr_info[0]?.local;
    if (link === undefined || address === undefined)
      throw new PlatformError("there is no default route to take the node's address from", "set node.address");
    return { address, overlayMtu: link.mtu - OVERHEAD_BYTES };
  }
  const link = links.find(({ addr_info }) => addr_info.some(({ local }) => local === configured));
  if (link === undefined)
    throw new PlatformError(`node.address ${configured} is not an address of this node`, "ip -4 address");
  return { address: configured, overlayMtu: link.mtu - OVERHEAD_BYTES };
}

async function defaultRouteDevice(): Promise<string | undefined> {
  const routes = JSON.parse((await run(["ip", "-json", "-4", "route", "show", "default"])) || "[]") as {
    dev?: string;
  }[];
  return routes[0]?.dev;
}
