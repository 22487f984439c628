// Rows that a store can be filled with.
import type { Change, Network } from "../../src/cluster/schema.ts";
import { serviceRow } from "../api/fake-backend.ts";

export function networkRow(i: number): Network {
  const id = `n${String(i).padStart(24, "0")}`;
  const vni = 4096 + i;
  return {
    id,
    name: `net${i}`,
    vni,
    subnet: "10.0.0.0/20",
    gateway: "10.0.0.1",
    internal: false,
    encrypted: false,
    createdAt: i,
  };
}

export function putNetwork(i: number): Change {
  return { kind: "networks", key: networkRow(i).id, row: networkRow(i) };
}

/** A service as it is today, and as versions wrote it that had the PROXY protocol. */
export const SERVICE = serviceRow("older");
export const PUT_OLDER_SERVICE = {
  ...{ kind: "services", key: SERVICE.id },
  row: { ...SERVICE, proxyProtocol: true },
} as Change;
