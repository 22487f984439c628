// What holds for the whole cluster: chosen when it is made, kept in its state, and the same on every node.
import { z } from "zod";
import { MAX_WORD, text } from "../lib/bounds.ts";
import { cidr, overlaps, parseCidr } from "../lib/ip.ts";

/** Room for the two networks that exist from the start, a /20 each. */
const MAX_POOL_BITS = 19;
/** What is no unicast address of a network: this host, loopback, multicast and above (RFC 6890). */
const UNUSABLE_POOLS = ["0.0.0.0/8", "127.0.0.0/8", "224.0.0.0/3"].map(cidr);
/** RFC 6761 and RFC 7686: names that no resolver is asked for. */
export const SPECIAL_DOMAINS = /(^|\.)(localhost|invalid|onion)$/i;
const REVERSE_DOMAINS = /(^|\.)(in-addr|ip6)\.arpa$/i;

/** As the state has them. */
export const ClusterSettings = z.object({
  /** What the networks' subnets are cut from. */
  pool: text(MAX_WORD),
  /** What every name of the overlay is found under too. In lower case, without a dot at its end. */
  domain: text(MAX_WORD),
  /** A node whose session is silent for longer is down. */
  livenessMs: z.int().min(1),
  /** Whether workers may send commands, as managers do. */
  workerWrites: z.boolean(),
  /** Whether every network is encrypted. Chosen when the cluster is made. */
  encrypt: z.boolean().default(false),
});
export type ClusterSettings = z.infer<typeof ClusterSettings>;

/** The key of the one row of settings. */
export const SETTINGS_KEY = "cluster";

const Pool = z.string().superRefine((word, context) => {
  const pool = parseCidr(word);
  if (pool === undefined) context.addIssue(`'${word}' is not an IPv4 prefix (such as 10.192.0.0/10, no host bits set)`);
  else if (pool.bits > MAX_POOL_BITS)
    context.addIssue(`a pool is /${MAX_POOL_BITS} or larger: networks take a /20 each`);
  else if (UNUSABLE_POOLS.some((unusable) => overlaps(pool, unusable)))
    context.addIssue(`'${word}' holds loopback, multicast or reserved addresses`);
});

/** Under which every name of the overlay is found too. */
export const Domain = z
  .string()
  .max(100, "a domain has at most 100 characters here: names stand before it")
  .regex(
    /^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z]([a-z0-9-]{0,61}[a-z0-9])?$/i,
    "a domain is labels of letters, digits and '-', joined by dots",
  )
  .refine(
    (word) => !SPECIAL_DOMAINS.test(word) && !REVERSE_DOMAINS.test(word),
    "that domain has a meaning of its own (RFC 6761)",
  )
  .transform((word) => word.toLowerCase());

export const LivenessMs = z
  .int("a whole number of milliseconds is needed")
  .min(1000, "at least 1s is needed")
  .max(3_600_000, "at most an hour");

/** As a person chooses them for a new cluster; what is left out has its default. */
export const AskedSettings = z.strictObject({
  pool: Pool.default("10.192.0.0/10"),
  domain: Domain.default("overlay"),
  livenessMs: LivenessMs.default(15_000),
  workerWrites: z.boolean().default(false),
  encrypt: z.boolean().default(false),
});
/** As a caller may write them. */
export type AskedSettings = z.input<typeof AskedSettings>;
