// What is to be attached: the container or network namespace that a person or a label means, and the command for it.
import type { CommandInput } from "../cluster/commands.ts";
import { Alias, type Attachment } from "../cluster/schema.ts";
import { messageOf, UserError } from "../lib/errors.ts";
import { didYouMean } from "../lib/nearest.ts";
import type { Container, DockerEngine } from "../runtime/docker-engine.ts";
import type { AttachmentSpec } from "./labels.ts";

const COMPOSE_SERVICE = "com.docker.compose.service";

/** Whether `reference` means the attached container or namespace: by its name, its id or the beginning of one. */
export function isMeant({ subject, name }: Attachment, reference: string): boolean {
  if (name === reference || subject === reference || subject === NETNS + reference) return true;
  return /^[0-9a-f]{4,}$/.test(reference) && subject.startsWith(reference);
}

export const NETNS = "netns:";

/** The name of the network namespace; undefined: the subject is a container. */
export function namespaceOf(subject: string): string | undefined {
  return subject.startsWith(NETNS) ? subject.slice(NETNS.length) : undefined;
}

export interface NamedSubject {
  /** As in Attachment. */
  subject: string;
  /** The name that a person gave it; a container has its own. */
  name: string;
  /** undefined: it is a network namespace. */
  container: Container | undefined;
}

interface FindContainerOptions {
  engine: Pick<DockerEngine, "container" | "containers">;
  namespaces: { exists(name: string): Promise<boolean> };
}

/** Returns a container that runs; undefined: `reference` names a network namespace. Throws UserError. */
export async function findContainer(
  reference: string,
  { engine, namespaces }: FindContainerOptions,
): Promise<Container | undefined> {
  const isNamespace = async () => /^[^/]+$/.test(reference) && (await namespaces.exists(reference));
  const nothing = `there is no network namespace '${reference}', and no container`;
  try {
    const container = await engine.container(reference);
    if (container?.isRunning === false) throw new UserError(409, `container '${container.name}' does not run`);
    if (container !== undefined || (await isNamespace())) return container;
    const names = (await engine.containers()).map(({ name }) => name);
    throw new UserError(404, `${nothing}${didYouMean(reference, names)}`);
  } catch (error) {
    if (error instanceof UserError) throw error;
    if (await isNamespace()) return undefined;
    throw new UserError(404, `${nothing}, and Docker does not answer: ${messageOf(error)}`);
  }
}

/** Throws UserError when the container has no network namespace of its own. */
export function requireOwnNamespace({ name, networkMode }: Container): void {
  if (networkMode === "host") {
    throw new UserError(400, `container '${name}' has its host's network; start it with --network none`);
  }
  if (networkMode.startsWith("container:")) {
    throw new UserError(400, `container '${name}' shares the network of another, which can be attached instead`);
  }
}

/** The command that asks the leader for an address on the node with the id `node`. */
export function attachCommand(
  node: string,
  { subject, name, container }: NamedSubject,
  { address, ...spec }: AttachmentSpec,
): CommandInput {
  return {
    type: "attach",
    node,
    subject,
    subjectName: container?.name ?? name,
    image: container?.image ?? null,
    hostNames: hostNamesOf(container, name),
    ...spec,
    ...(address === null ? {} : { address }),
  };
}

/** The names that Docker's own networks would give it: its name, Compose's service, and the beginning of its id. */
function hostNamesOf(container: Container | undefined, name: string): string[] {
  const names =
    container === undefined
      ? [name]
      : [container.name, container.labels[COMPOSE_SERVICE] ?? "", container.id.slice(0, 12)];
  return names.filter((candidate) => Alias.safeParse(candidate).success);
}
