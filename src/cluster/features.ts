// What an agent speaks: the protocol's version, and features that came after it. A row that needs a feature is withheld from
// nodes without it, and no task of it is placed there. docs/compatibility.md says what may change in which way.

/** Grows when a session of before cannot go on as it is; what is only more is a feature. */
export const PROTOCOL = 1;
/** The oldest that this version still speaks. */
const OLDEST_PROTOCOL = 1;

/** What this version can do besides the protocol. */
export const FEATURES: readonly string[] = [];

/** Why a leader of this version does not speak with a node of that protocol; undefined: it does. */
export function whyNotSpoken(protocol: number): string | undefined {
  if (protocol > PROTOCOL) {
    return `this node speaks protocol ${protocol}, and the leader knows ${PROTOCOL} at most: the managers are to be updated first`;
  }
  if (protocol >= OLDEST_PROTOCOL) return undefined;
  return `this node speaks protocol ${protocol}, and the leader knows ${OLDEST_PROTOCOL} at least: overlayd on the node is to be updated`;
}
