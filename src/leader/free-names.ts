// Names on one network. The name of a service or an endpoint is its own. Several may share an alias, but no alias is also
// the name of a service or endpoint, because one of the two would never be found.

import { sameName } from "../cluster/lookup.ts";
import type { Network, Service, State } from "../cluster/schema.ts";
import { UserError } from "../lib/errors.ts";

export interface WantedNames {
  /** The name of the service or endpoint; null: it has none. */
  name: string | null;
  aliases: readonly string[];
}

/**
 * Throws UserError 409 when what is wanted hides a name that is there, or is hidden by it. `own` is the service whose
 * names may be met. Loops over all services, endpoints and attached tasks, once a command.
 */
export function requireFreeNames(state: State, network: Network, { name, aliases }: WantedNames, own?: Service): void {
  const refuse = (message: string, field: string): never => {
    throw new UserError(409, message, { field });
  };
  const checkName = (what: string, taken: string | null): void => {
    if (sameName(taken, name)) refuse(`network '${network.name}' has ${what} '${name}' already`, "name");
    const alias = aliases.find((other) => sameName(other, taken));
    if (alias !== undefined) refuse(`network '${network.name}' has ${what} '${taken}' already`, "aliases");
  };
  const checkAliases = (owner: string, taken: readonly string[]): void => {
    if (!taken.some((alias) => sameName(alias, name))) return;
    refuse(`'${name}' is an alias of ${owner} on network '${network.name}' already`, "name");
  };
  for (const service of state.services.values()) {
    if (service.id === own?.id || !service.networks.includes(network.id)) continue;
    checkName("a service", service.name);
    checkAliases(`service '${service.name}'`, service.aliases[network.id] ?? []);
  }
  for (const { networkId, name: taken, attachment } of state.endpoints.values()) {
    if (networkId !== network.id) continue;
    checkName("an endpoint", taken);
    if (attachment !== null) checkAliases(`container '${attachment.name}'`, attachment.aliases);
  }
  for (const { addresses, attachment } of state.tasks.values()) {
    if (attachment === null || addresses[network.id] === undefined) continue;
    checkAliases(`container '${attachment.name}'`, attachment.aliases);
  }
}
