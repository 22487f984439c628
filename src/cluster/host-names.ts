// The names in DNS of what is attached to a network, as written.
import type { Attachment, Endpoint } from "./schema.ts";

const SHORT_ID_CHARS = 12;

/** The names of an attached container or namespace, those that were chosen for it before those that it has anyway. */
export function hostNamesOf({ aliases, hostNames }: Attachment): string[] {
  return [...aliases, ...hostNames];
}

/** The names of an endpoint, the best first: its own, those of its container, and for lack of any the start of its id. */
export function endpointNames(endpoint: Endpoint): string[] {
  const { name, attachment } = endpoint;
  const names = [...(name === null ? [] : [name]), ...(attachment === null ? [] : hostNamesOf(attachment))];
  return names.length === 0 ? [shortId(endpoint)] : names;
}

export function shortId({ id }: Endpoint): string {
  return id.slice(0, SHORT_ID_CHARS);
}

/** The names above a name: `corp.example` and `example` of `db.corp.example`. */
export function parentsOf(name: string): string[] {
  const parents: string[] = [];
  for (let dot = name.indexOf("."); dot >= 0; dot = name.indexOf(".", dot + 1)) parents.push(name.slice(dot + 1));
  return parents;
}
