// The options of an agent, which all of its parts share.
import type { Log } from "../lib/log.ts";
import type { Config } from "./config.ts";
import type { Identity } from "./identity.ts";

export interface AgentOptions {
  config: Config;
  identity: Identity;
  log: Log;
  /** Whether the manager's store is a backup that was put back. */
  newEpoch?: boolean;
  /** Called for `overlayctl leave`: stops the agent, takes away all that the node has of the cluster, and starts the agent again. */
  onLeave: () => void;
  /** Called, with the reason, when the identity on disk is another one or the node can be more than it was: stops the agent and starts it again. */
  onStartAgain: (reason: string) => void;
  /** The data path failed while it ran: nothing is carried any more. */
  onFailure: (error: Error) => void;
}
