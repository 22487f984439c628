// The configuration's `dns`: who answers the names that are not the overlay's.
import { z } from "zod";
import { SPECIAL_DOMAINS } from "../cluster/settings.ts";
import { parseUpstream } from "../dns/upstream.ts";
import { isLinkLocal, isLoopback, isUnicast } from "../lib/unicast.ts";

/** As written; see parseUpstream(). */
const Resolver = z
  .string()
  .refine((text) => parseUpstream(text) !== undefined, "a resolver is ADDRESS, IPV4:PORT or [IPV6]:PORT")
  .superRefine((text, context) => {
    const address = parseUpstream(text)?.address;
    if (address === undefined || isUnicast(address) || isLoopback(address)) return;
    if (!isLinkLocal(address))
      context.addIssue("no resolver has this address: it is no one host's, or IPv4's in IPv6's form");
    else if (!text.includes("%")) context.addIssue("a link-local address needs its link: fe80::1%eth0");
  });

export const DnsSection = z
  .strictObject({
    /** Left out: the node's own, from resolv.conf. */
    resolvers: z.array(Resolver).optional(),
    /** Domain, in lower case and without a dot at its end, to resolvers. */
    forward: z
      .record(z.string(), z.array(Resolver).min(1, "at least one resolver is needed"))
      .superRefine((forward, context) => {
        const keysByDomain = new Map<string, string>();
        for (const key of Object.keys(forward)) {
          const twin = keysByDomain.get(domainOf(key));
          const fault = faultOf(key) ?? (twin === undefined ? undefined : `is the same domain as '${twin}'`);
          if (fault !== undefined) context.addIssue({ code: "custom", path: [key], message: `'${key}' ${fault}` });
          keysByDomain.set(domainOf(key), key);
        }
      })
      .transform((forward) =>
        Object.fromEntries(Object.entries(forward).map(([key, resolvers]) => [domainOf(key), resolvers])),
      )
      .default({}),
  })
  .default({ forward: {} });

/** The domains of `forward` that are the overlay's own, for which no resolver is asked. */
export function ownAmong(forward: Readonly<Record<string, unknown>>, domain: string): string[] {
  return Object.keys(forward).filter((key) => key === domain || key.endsWith(`.${domain}`));
}

function domainOf(key: string): string {
  return key.toLowerCase().replace(/\.$/, "");
}

/** Why no name could ever be of the domain `key`; undefined: some could. */
function faultOf(key: string): string | undefined {
  const domain = domainOf(key);
  const labels = domain.split(".");
  if (domain === "") return "is every name: their resolvers are in dns.resolvers";
  if (labels.includes("*")) return "has a '*': a domain stands for all names under it as it is";
  if (labels.includes("")) return "has an empty label";
  if (!/^[a-z0-9._-]*$/.test(domain)) return "has more than letters, digits, '-', '_' and dots";
  if (labels.some((label) => label.length > 63)) return "has a label of more than 63 characters";
  if (domain.length > 253) return "has more than 253 characters";
  if (SPECIAL_DOMAINS.test(domain)) return "has a meaning of its own (RFC 6761, RFC 7686): no resolver is asked for it";
  return undefined;
}
