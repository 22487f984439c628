// The export before an upgrade: another version of overlayd than the one which led from this manager last may write what that
// one cannot read. Which version that was is in a file beside the store.
import type { State } from "../cluster/tables.ts";
import { messageOf } from "../lib/errors.ts";
import { textIfThere } from "../lib/exists.ts";
import { replaceFile } from "../lib/replace-file.ts";
import { VERSION } from "../lib/version.ts";
import type { ManagerOptions } from "./manager-options.ts";
import { pathsOf } from "./paths.ts";

type Upgrading = Pick<ManagerOptions, "config" | "exports" | "storedVersion" | "log">;

/**
 * Writes an export of the state that this manager is about to lead with, if another version has led from here last. Versions
 * before this one left no file: then what is in the manager's own file, and its node knows, is theirs. An export that fails
 * keeps no manager from leading: it is tried again the next time.
 */
export async function exportBeforeUpgrade(
  { config, exports, storedVersion, log }: Upgrading,
  state: State,
  { isOwnFile }: { isOwnFile: boolean },
): Promise<void> {
  if (state.cluster === null) return; // nothing to lead with yet
  const path = pathsOf(config).ledBy;
  try {
    const before = (await textIfThere(path))?.trim();
    if (before === VERSION) return;
    const isUpgrade = before !== undefined || (isOwnFile && storedVersion() !== undefined);
    if (isUpgrade) {
      const written = await exports.write("before-upgrade", state);
      log.info("another version of overlayd led from here last: its state is exported first", {
        path: written,
        reason: `${before ?? "a version before 0.1.0"} led, this is ${VERSION}`,
      });
    }
    await replaceFile(path, `${VERSION}\n`);
  } catch (error) {
    log.error("the export before the upgrade was not written", { path, reason: messageOf(error) });
  }
}
