// What is measured: a way from one container to another, and the processes whose work it is.
import type { LabHost } from "../test/system/lab.ts";

export interface Path {
  from: LabHost;
  to: LabHost;
  /** What `from` calls `to`. */
  address: string;
  /** Processes that carry its packets; none when the kernel does. */
  agents(): readonly number[];
}
