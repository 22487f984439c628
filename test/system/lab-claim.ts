// One process a lab: two that use one prefix would take down each other's namespaces.
import { createServer, type Server } from "node:net";

/** Holds an abstract socket: it goes with the process that has it. */
export function claimPrefix(prefix: string): Promise<Server> {
  const claim = createServer();
  return new Promise((resolve, reject) => {
    claim.once("error", (cause) => reject(new Error(`another process has the lab '${prefix}' in use`, { cause })));
    claim.listen(`\0overlayd-lab-${prefix}`, () => resolve(claim.unref()));
  });
}
