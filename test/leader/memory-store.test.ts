// The tests' own store must behave as a store does.
import { MemoryStore } from "../fakes/memory-store.ts";
import { storeSuite } from "./store-suite.ts";

storeSuite("memory", async () => {
  const store = new MemoryStore();
  return { open: async () => store, remove: async () => undefined };
});
