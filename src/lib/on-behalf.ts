// For whom this process works while it handles a request: what is asked of the leader meanwhile is logged there as asked
// by that one.
import { AsyncLocalStorage } from "node:async_hooks";

const askers = new AsyncLocalStorage<string>();

/** Runs `work`, and what it calls and awaits, on behalf of `asker`, such as `user alice`. */
export function onBehalfOf<T>(asker: string, work: () => T): T {
  return askers.run(asker, work);
}

/** undefined: it works for itself. */
export function currentAsker(): string | undefined {
  return askers.getStore();
}
