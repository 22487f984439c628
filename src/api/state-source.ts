// Where the state comes from that an answer was read from: a header, so that a client can tell when it may be old.

export const STATE_HEADER = "overlayd-state";

/**
 * `leader`: this node has a session with the leader. `kept`: it had one, and what others have changed since may be missing.
 * `disk`: it has had none since its agent started, and the last seconds before that may be missing, also of its own writes.
 */
export type StateSource = "leader" | "kept" | "disk";

export function parseStateSource(value: unknown): StateSource {
  return value === "kept" || value === "disk" ? value : "leader"; // an agent of a version before does not say
}
