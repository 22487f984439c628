// The settings of the simulated cluster, and what takes its time.
export const POOL = "10.192.0.0/10";
export const LIVENESS_MS = 15_000;
/** A node shows that it lives so often. */
export const BEAT_MS = LIVENESS_MS / 5;
/** One way. */
export const LINK_MS = 0.5;
/** So long a client waits for a change to be in force everywhere. */
export const WAIT_MS = 60_000;
/** The same for all that was made before nodes reported: the leader then takes what every node has to say of every task. */
export const FIRST_WAIT_MS = 600_000;
/** How many nodes join at once. */
export const JOINS_AT_ONCE = 64;
/** One for the session, one for reports and beats. */
export const CONNECTIONS_A_NODE = 2;
/** How many nodes' handshakes a new leader has under way: src/leader/server-limits.ts has a limit of connections. */
export const COMING_AT_ONCE = 1024;
