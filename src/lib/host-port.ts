// HOST:PORT as people write it, where a manager answers.
import { z } from "zod";
import { parseIpv4 } from "./ip.ts";

/** Where managers answer nodes, if no other port is given. */
const CLUSTER_PORT = 2377;

/** "192.0.2.11:2377": an IPv4 address of this node. The port may be left out. */
export const AddressPort = z.string().transform((text, context) => {
  const { host, port } = splitHostPort(text);
  if (parseIpv4(host) === undefined) context.addIssue(`'${host}' is not an IPv4 address`);
  else if (port === undefined) context.addIssue("ADDRESS:PORT is needed, the port 1 to 65535");
  return { host, port: port ?? CLUSTER_PORT };
});

/** "192.0.2.11:2377", a host name allowed; always with its port in the result. */
export const HostPort = z
  .string()
  .max(255 + ":65535".length, "a host's name has at most 255 characters")
  .transform((text, context) => {
    const { host, port } = splitHostPort(text);
    if (!/^[a-z0-9.-]+$/i.test(host)) context.addIssue(`'${text}' is not HOST:PORT`);
    else if (/^[\d.]+$/.test(host) && parseIpv4(host) === undefined)
      context.addIssue(`'${host}' is not an IPv4 address`);
    else if (port === undefined) context.addIssue(`'${text}' has no port 1 to 65535`);
    return `${host}:${port ?? CLUSTER_PORT}`;
  });

/** Splits at the last colon. `port` is undefined when it is not one; left out, it is the cluster's. */
function splitHostPort(text: string): { host: string; port: number | undefined } {
  const colon = text.lastIndexOf(":");
  if (colon < 0) return { host: text, port: CLUSTER_PORT };
  const digits = text.slice(colon + 1);
  const port = /^\d{1,5}$/.test(digits) ? Number(digits) : 0;
  return { host: text.slice(0, colon), port: port >= 1 && port <= 65535 ? port : undefined };
}
