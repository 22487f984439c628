// A way from one container to another, over which the bench measures, and the processes that carry its packets.
import type { LabHost } from "../test/system/lab.ts";

export interface Path {
  from: LabHost;
  to: LabHost;
  /** Address by which `from` reaches `to`. */
  address: string;
  /** Processes that carry its packets; none when the kernel does. */
  agents(): readonly number[];
}
