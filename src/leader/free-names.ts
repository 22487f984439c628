// Names on one network. The name of a service or an endpoint is its own. Several may share an alias, but no alias is also
// the name of a service or endpoint, because one of the two would never be found.

import { rowsNamed, sameName } from "../cluster/lookup.ts";
import type { Network, Service } from "../cluster/schema.ts";
import type { State } from "../cluster/tables.ts";
import { UserError } from "../lib/errors.ts";

export interface WantedNames {
  /** The name of the service or endpoint; null: it has none. */
  name: string | null;
  aliases: readonly string[];
}

/**
 * Throws UserError 409 when what is wanted hides a name that is there, or is hidden by it. `own` is the service whose
 * names may be met.
 */
export function requireFreeNames(state: State, network: Network, { name, aliases }: WantedNames, own?: Service): void {
  for (const alias of aliases) {
    const found = namedOn(state, network, alias, own);
    if (found !== undefined) clash(`network '${network.name}' has ${found.what} '${found.name}' already`, "aliases");
  }
  if (name === null) return;
  const found = namedOn(state, network, name, own);
  if (found !== undefined) clash(`network '${network.name}' has ${found.what} '${name}' already`, "name");
  const owner = aliasedOn(state, network, name, own);
  if (owner === undefined) return;
  clash(`'${name}' is an alias of ${owner} on network '${network.name}' already`, "name");
}

function clash(message: string, field: string): never {
  throw new UserError(409, message, { field });
}

/** What has the name for its own on the network. */
function namedOn(
  { services, endpoints }: State,
  network: Network,
  wanted: string,
  own: Service | undefined,
): { what: string; name: string | null } | undefined {
  const service = rowsNamed(services, wanted).find(
    ({ id, networks }) => id !== own?.id && networks.includes(network.id),
  );
  if (service !== undefined) return { what: "a service", name: service.name };
  const endpoint = rowsNamed(endpoints, wanted).find(({ networkId }) => networkId === network.id);
  return endpoint && { what: "an endpoint", name: endpoint.name };
}

/** What has the name for an alias on the network. Names that a container has anyway (`hostNames`) do not count. */
function aliasedOn(state: State, network: Network, wanted: string, own: Service | undefined): string | undefined {
  const key = `${network.id}/${wanted.toLowerCase()}`;
  const service = state.services.by("alias", key).find(({ id }) => id !== own?.id);
  if (service !== undefined) return `service '${service.name}'`;
  const attached = [...state.endpoints.by("alias", key), ...state.tasks.by("alias", key)];
  const container = attached.find(({ attachment }) => attachment!.aliases.some((alias) => sameName(alias, wanted)));
  return container && `container '${container.attachment!.name}'`;
}
