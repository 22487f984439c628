// Rows by the word that a person names them with: a name, an id or the beginning of an id. Names are DNS labels, so case
// does not tell them apart.
import { UserError } from "../lib/errors.ts";
import { formatCidr, type Ipv4, maskOf } from "../lib/ip.ts";
import { didYouMean } from "../lib/nearest.ts";
import type { Network, RowOf } from "./schema.ts";
import { type ClusterSettings, SETTINGS_KEY } from "./settings.ts";
import type { Rows, State } from "./tables.ts";
import type { Trust } from "./trust-rows.ts";

/** The tables whose rows a person names. */
export type NamedKind = "networks" | "services" | "nodes" | "endpoints" | "users";

/** Fewer letters of an id are more likely a slip than a name. */
const LEAST_LETTERS = 3;

/** The row of that id or name, or of the only id that begins so. */
export function find<K extends NamedKind>(rows: Rows<K>, word: string): RowOf<K> | undefined {
  const row = rows.get(word) ?? rowsNamed(rows, word)[0];
  if (row !== undefined || !/^[0-9a-z]+$/.test(word) || word.length < LEAST_LETTERS) return row;
  // Loops over all rows: once for a word that a person shortened or got wrong.
  let found: RowOf<K> | undefined;
  for (const [id, candidate] of rows) {
    if (!id.startsWith(word)) continue;
    if (found !== undefined) return undefined;
    found = candidate;
  }
  return found;
}

/** As find. Throws UserError 404 with the nearest name. */
export function findByName<K extends NamedKind>(what: string, rows: Rows<K>, word: string): RowOf<K> {
  const row = find(rows, word);
  if (row === undefined) throw new UserError(404, `there is no ${what} '${word}'${nearestName(rows, word)}`);
  return row;
}

/** "; did you mean 'NAME'?", or nothing. Loops over all rows: once for a word that no row has. */
export function nearestName<K extends NamedKind>(rows: Rows<K>, word: string): string {
  const names = [...(rows.values() as Iterable<{ name: string | null }>)].flatMap(({ name }) => name ?? []);
  return didYouMean(word, names);
}

/** The rows of exactly that name. */
export function rowsNamed<K extends NamedKind>(rows: Rows<K>, name: string): RowOf<K>[] {
  return rows.by("name", name.toLowerCase());
}

/** undefined: the state is empty, or of a version that had them in each node's configuration. */
export function settingsOf({ settings }: Pick<State, "settings">): ClusterSettings | undefined {
  return settings.get(SETTINGS_KEY);
}

/** undefined: the state is empty, or of a version without certificates. */
export function trustOf({ trust }: Pick<State, "trust">): Trust | undefined {
  return trust.get("nodes");
}

/** undefined: the store's certificate authority was never changed, and is the one that managers have the key of. */
export function storeTrustOf({ trust }: Pick<State, "trust">): Trust | undefined {
  return trust.get("store");
}

/** The network that has the address. Subnets do not overlap: there is one at most. */
export function networkOf({ networks }: Pick<State, "networks">, address: Ipv4): Network | undefined {
  for (let bits = 32; bits > 0; bits--) {
    const [network] = networks.by("subnet", formatCidr({ base: address & maskOf(bits), bits }));
    if (network !== undefined) return network;
  }
  return undefined;
}

/** Throws UserError 409 when a row has that name. */
export function requireNewName<K extends NamedKind>(what: string, rows: Rows<K>, name: string): void {
  if (rows.count("name", name.toLowerCase()) > 0) throw new UserError(409, `a ${what} '${name}' exists already`);
}

export function sameName(a: string | null, b: string | null): boolean {
  return a !== null && b !== null && a.toLowerCase() === b.toLowerCase();
}
