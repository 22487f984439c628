// Rows by the name that a person uses. Names are DNS labels, so case does not tell them apart.
import { UserError } from "../lib/errors.ts";
import { didYouMean } from "../lib/nearest.ts";

interface Named {
  id: string;
  name: string | null;
}

/** The row of that id or name. Throws UserError 404. */
export function findByName<T extends Named>(what: string, table: ReadonlyMap<string, T>, name: string): T {
  const row = table.get(name) ?? [...table.values()].find((candidate) => sameName(candidate.name, name));
  if (row === undefined) {
    const names = [...table.values()].flatMap((candidate) => candidate.name ?? []);
    throw new UserError(404, `there is no ${what} '${name}'${didYouMean(name, names)}`);
  }
  return row;
}

/** Throws UserError 409 when a row has that name. */
export function requireNewName(what: string, table: ReadonlyMap<string, Named>, name: string): void {
  const taken = [...table.values()].some((row) => sameName(row.name, name));
  if (taken) throw new UserError(409, `a ${what} '${name}' exists already`);
}

export function sameName(a: string | null, b: string | null): boolean {
  return a !== null && b !== null && a.toLowerCase() === b.toLowerCase();
}
