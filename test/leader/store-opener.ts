// A process that opens a store, twice when it is damaged, and says what it found: for embedded-store.test.ts.
import { openEmbeddedStore } from "../../src/leader/embedded-store.ts";
import { PlatformError } from "../../src/lib/errors.ts";

async function outcome(): Promise<string> {
  try {
    const store = await openEmbeddedStore(process.argv[2]!);
    const { networks, revision } = await store.load();
    await store.close();
    return `rows ${networks.size} revision ${revision}`;
  } catch (error) {
    if (error instanceof PlatformError && error.message.includes("set aside")) return "damaged";
    throw error;
  }
}

const first = await outcome();
console.log(first === "damaged" ? `damaged ${await outcome()}` : first);
