// The configuration's `dns`: the overlay's own domain, and who answers all other names.
import { z } from "zod";
import { parseUpstream } from "../dns/upstream.ts";

/** RFC 6761 and what is made of addresses. */
const RESERVED_DOMAINS = /(^|\.)(localhost|invalid|onion|in-addr\.arpa|ip6\.arpa)$/i;

/** As written; see parseUpstream(). */
const Resolver = z
  .string()
  .refine((text) => parseUpstream(text) !== undefined, "a resolver is ADDRESS, IPV4:PORT or [IPV6]:PORT");

/** Under which every name of the overlay is found too. */
const Domain = z
  .string()
  .max(100, "a domain has at most 100 characters here: names stand before it")
  .regex(
    /^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z]([a-z0-9-]{0,61}[a-z0-9])?$/i,
    "a domain is labels of letters, digits and '-', joined by dots",
  )
  .refine((text) => !RESERVED_DOMAINS.test(text), "that domain has a meaning of its own (RFC 6761)")
  .transform((text) => text.toLowerCase());

export const DnsSection = z
  .strictObject({
    /** Left out: the node's own, from resolv.conf. */
    resolvers: z.array(Resolver).optional(),
    /** Domain to resolvers. */
    forward: z.record(z.string(), z.array(Resolver).min(1, "at least one resolver is needed")).default({}),
    domain: Domain.default("overlay"),
  })
  .default({ forward: {}, domain: "overlay" });
