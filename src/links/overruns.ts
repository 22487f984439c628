// What the kernel drops before the data path sees it: packets that find the device's queue full.
import { run } from "../lib/command.ts";
import { asPlatformError } from "./iproute.ts";

interface LinkStatistics {
  stats64: { tx: { dropped: number } };
}

/** Packets lost since the device was made, because the agent did not read them in time or was away. Throws PlatformError. */
export async function deviceOverruns(device: string): Promise<number> {
  try {
    const [link] = JSON.parse(
      await run(["ip", "-json", "-statistics", "link", "show", "dev", device]),
    ) as LinkStatistics[];
    return link!.stats64.tx.dropped;
  } catch (error) {
    throw asPlatformError(error);
  }
}
