// What the number of managers means for what may fail.

/** undefined: nothing is to be said. `isByHand`: when the leader of two is lost, a person has the other one take over. */
export function warningOfCount(count: number, isByHand: boolean): string | undefined {
  if (count < 2 || count % 2 === 1) return undefined;
  if (count === 2 && isByHand) {
    return "two managers: when the leader fails, none leads until 'overlayctl cluster takeover' on the other one; a third manager takes over by itself";
  }
  return `${count} managers can lose no more than ${count - 1} can: ${count + 1} or ${count - 1} are better`;
}
