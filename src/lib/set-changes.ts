/** The members that came or went: those of one of the two sets alone. */
export function setChanges<T>(before: ReadonlySet<T>, now: ReadonlySet<T>): T[] {
  return [...new Set([...before, ...now])].filter((member) => before.has(member) !== now.has(member));
}
