// The addresses of this machine's links that run, asked without a process.
import { networkInterfaces } from "node:os";

export interface LinkAddress {
  link: string;
  address: string;
}

/** The IPv4 addresses, each with its link's name. */
export function linkAddresses(): LinkAddress[] {
  return Object.entries(networkInterfaces()).flatMap(([label, addresses = []]) =>
    addresses.filter(({ family }) => family === "IPv4").map(({ address }) => ({ link: linkOfLabel(label), address })),
  );
}

/** An address may have a label of its own: the link's name, a colon and more, as eth0:1. */
export function linkOfLabel(label: string): string {
  return label.split(":", 1)[0]!;
}
