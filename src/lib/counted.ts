// A count and its word.

/** "1 task", "3 tasks". `several`: the words for none and for more than one, where they are not `one` with an "s". */
export function counted(count: number, one: string, several = `${one}s`): string {
  return `${count} ${count === 1 ? one : several}`;
}
