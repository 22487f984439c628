// A process that opens a store, twice when it is damaged, and says what it found: for embedded-store.test.ts.
// "full": there was no room to open it.
import { openEmbeddedStore } from "../../src/leader/embedded-store.ts";
import { PlatformError } from "../../src/lib/errors.ts";

const FULL = /state\.mdb cannot be opened: (the disk is full: \d+ bytes are free|.*no space left on device).* \(.*df /;

async function outcome(): Promise<string> {
  try {
    const store = await openEmbeddedStore(process.argv[2]!);
    const { networks, revision } = await store.load();
    await store.close();
    return `rows ${networks.size} revision ${revision}`;
  } catch (error) {
    if (error instanceof PlatformError && error.message.includes("set aside")) return "damaged";
    if (error instanceof PlatformError && FULL.test(error.message)) return "full";
    throw error;
  }
}

const first = await outcome();
console.log(first === "damaged" ? `damaged ${await outcome()}` : first);
