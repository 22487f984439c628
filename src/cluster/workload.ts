// What a service's tasks run: a command as a process of the node, or containers of an image.
import { z } from "zod";
import { list, MAX_ARGUMENT, MAX_ARGUMENTS, MAX_PATH, MAX_WORD, map, text } from "../lib/bounds.ts";
import { Naming } from "./naming.ts";

/** The reference grammar of the OCI distribution specification: [HOST[:PORT]/]PATH[:TAG][@DIGEST]. */
const IMAGE =
  /^(?:[a-zA-Z0-9][a-zA-Z0-9.-]*(?::\d+)?\/)?[a-z0-9]+(?:[._-]+[a-z0-9]+)*(?:\/[a-z0-9]+(?:[._-]+[a-z0-9]+)*)*(?::\w[\w.-]{0,127})?(?:@sha256:[a-f0-9]{64})?$/;
/** Labels of ours tell the agent which containers are its own. */
const OWN_LABEL = /^overlayd\./;
/** Docker refuses less. */
const MIN_MEMORY_BYTES = 6 << 20;

const AbsolutePath = text(MAX_PATH).startsWith("/", "an absolute path is needed");
const Env = map(text(MAX_PATH), text(MAX_ARGUMENT), MAX_ARGUMENTS).refine(
  (env) => Object.keys(env).every((name) => /^[^=]+$/.test(name)),
  {
    error: "a variable's name is not empty and has no '='",
  },
);

/** What it gets between the signal that asks it to end and the one that ends it. */
const StopGracePeriod = z.int().min(0).max(3_600_000, "at most an hour").default(10_000);

/** A command of the node itself, in a network namespace of its own. */
export const ProcessWorkload = z.strictObject({
  runtime: z.literal("process"),
  /** argv; the first is looked up in PATH. */
  command: list(text(MAX_ARGUMENT), MAX_ARGUMENTS).min(1, "a command is needed"),
  env: Env.default({}),
  workdir: AbsolutePath.nullable().default(null),
  stopGracePeriodMs: StopGracePeriod,
  naming: Naming.optional(),
});
export type ProcessWorkload = z.infer<typeof ProcessWorkload>;

export const Mount = z
  .strictObject({
    type: z.enum(["bind", "volume", "tmpfs"]),
    /** A path of the node, a volume's name; null: an anonymous volume, or tmpfs. */
    source: text(MAX_PATH).nullable().default(null),
    target: AbsolutePath,
    readOnly: z.boolean().default(false),
    /** The most that a tmpfs holds; null: no limit. */
    sizeBytes: z.int().min(1).nullable().default(null),
  })
  .superRefine(({ type, source, sizeBytes }, context) => {
    const wrong = (field: string, message: string) => context.addIssue({ code: "custom", path: [field], message });
    if (type === "bind" && source?.startsWith("/") !== true) wrong("source", "a bind mount needs an absolute path");
    if (type === "tmpfs" && source !== null) wrong("source", "a tmpfs mount has none");
    if (type !== "tmpfs" && sizeBytes !== null) wrong("sizeBytes", "only a tmpfs mount has a size");
  });
export type Mount = z.infer<typeof Mount>;

/** A container of an image. */
export const ContainerWorkload = z.strictObject({
  runtime: z.literal("docker"),
  image: z.string().max(512).regex(IMAGE, "not the name of an image"),
  /** null: the image's. */
  entrypoint: list(text(MAX_ARGUMENT), MAX_ARGUMENTS).min(1).nullable().default(null),
  /** Arguments; none: the image's. */
  command: list(text(MAX_ARGUMENT), MAX_ARGUMENTS).default([]),
  env: Env.default({}),
  workdir: AbsolutePath.nullable().default(null),
  user: text(MAX_WORD).min(1).nullable().default(null),
  labels: map(text(MAX_PATH), text(MAX_ARGUMENT), MAX_ARGUMENTS)
    .refine((labels) => !Object.keys(labels).some((key) => OWN_LABEL.test(key)), {
      error: "labels that begin with 'overlayd.' are overlayd's own",
    })
    .default({}),
  mounts: list(Mount, 1000).default([]),
  /** null: no limit. */
  memoryBytes: z.int().min(MIN_MEMORY_BYTES, "a memory limit is 6 MiB at least").nullable().default(null),
  cpus: z.number().min(0.01, "a CPU limit is 0.01 at least").max(4096).nullable().default(null),
  /** A small init reaps children and hands signals on. */
  init: z.boolean().default(false),
  stopGracePeriodMs: StopGracePeriod,
  capAdd: list(text(MAX_WORD).regex(/^[A-Za-z_]+$/, "not the name of a capability"), 100).default([]),
  naming: Naming.optional(),
  /** What pulls the image with, as X-Registry-Auth has it; null: what the node's own Docker configuration says. Secret: see secret-rows.ts. */
  registryAuth: text(MAX_ARGUMENT).nullable().default(null),
});
export type ContainerWorkload = z.infer<typeof ContainerWorkload> & { isAuthWithheld?: boolean | undefined };

/** As rows have it. */
export const RowWorkload = z.discriminatedUnion("runtime", [
  ProcessWorkload,
  /** `isAuthWithheld`: the service has credentials, and this copy of its row does not. */
  ContainerWorkload.extend({ isAuthWithheld: z.boolean().optional() }),
]);

export const Workload = z.discriminatedUnion("runtime", [ProcessWorkload, ContainerWorkload]);
/** As checked. */
export type Workload = z.infer<typeof Workload>;
/** As a caller may write it, defaults left out. */
export type WorkloadInput = z.input<typeof Workload>;
