// A service's settings: a new flag is a line here, a row of the CLI's options, and the place that uses it.
import { z } from "zod";
import { Balancing, DEFAULT_BALANCING } from "./balancing.ts";

export const DEFAULT_STOP_GRACE_MS = 10_000;

/** What a person may set of a service, and what it is when left out. A row has it, and the command that makes one, with bounds. */
export const ServiceSettings = z.object({
  labels: z.record(z.string(), z.string()).default({}),
  replicas: z.int().min(0).max(4096, "at most 4096 replicas").default(1),
  /** How long clients may keep the answers of DNS. */
  dnsTtlSeconds: z.int().min(0).max(86_400, "a TTL is a day at most").default(5),
  endpointMode: z.enum(["vip", "dnsrr"]).default("vip"),
  /** Tasks see their network's gateway instead of clients from outside it: for tasks whose default route is elsewhere. */
  ingressSourceNat: z.boolean().default(false),
  /** How long at most a task that is to stop may go on for connections that it has. */
  stopGraceMs: z.int().min(0).default(DEFAULT_STOP_GRACE_MS),
  balancing: Balancing.default(DEFAULT_BALANCING),
  /** `node.name==x`, `node.name!=x`; all must hold. */
  constraints: z.array(z.string()).default([]),
});
