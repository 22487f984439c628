// How a claim to a published port is written: PORT/PROTOCOL, on one address ADDRESS:PORT/PROTOCOL.
import type { PortClaim } from "./schema.ts";

export function claimKey({ port, protocol, address }: Omit<PortClaim, "serviceId">): string {
  return `${address === null ? "" : `${address}:`}${port}/${protocol}`;
}
