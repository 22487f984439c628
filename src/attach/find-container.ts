// What a person calls a container or network namespace, and which it is.
import { messageOf, UserError } from "../lib/errors.ts";
import { didYouMean } from "../lib/nearest.ts";
import type { Container, DockerEngine } from "../runtime/docker-engine.ts";
import type { Namespaces } from "./namespaces.ts";
import { type AttachedRow, NETNS } from "./rows.ts";

export interface Findable {
  engine: Pick<DockerEngine, "container" | "containers">;
  namespaces: Pick<Namespaces, "exists">;
}

/** A container that runs; undefined: it is a network namespace. Throws UserError. */
export async function findContainer(
  reference: string,
  { engine, namespaces }: Findable,
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

/** Whether it is what was attached. */
export function isMeant({ subject, name }: AttachedRow["attachment"], reference: string): boolean {
  if (name === reference || subject === reference || subject === NETNS + reference) return true;
  return /^[0-9a-f]{4,}$/.test(reference) && subject.startsWith(reference);
}
