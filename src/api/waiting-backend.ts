// The agent of a node that is in no cluster, as far as a person may ask it.
import type { ImportRequest, ImportView } from "./cluster-schema.ts";
import type { CheckedInit, CheckedJoin, InitView, JoinView } from "./membership-schema.ts";

export interface WaitingBackend {
  readonly nodeName: string;
  /** Why the join that the configuration asks for has not come about; null: it asks for none, or was not tried yet. */
  readonly problem: string | null;
  /** Makes a cluster of this node. The agent starts its parts after the answer. Throws UserError. */
  init(request: CheckedInit): Promise<InitView>;
  /** Makes a cluster of an export, with this node as its only manager. As `init`. */
  importCluster(request: ImportRequest): Promise<ImportView>;
  /** Makes this node a member of a cluster. The agent starts its parts after the answer. Throws UserError. */
  join(request: CheckedJoin): Promise<JoinView>;
  /** The answer about its becoming a member is out. */
  answered(): void;
}
