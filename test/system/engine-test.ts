// Declares a system test file's tests with a real Docker engine, which is there for the file.
import test, { type ExecutionContext } from "ava";
import { makeBaseImage, startEngine, whyNoEngine } from "./engine.ts";
import { undoAfterAll } from "./undo.ts";

/** A test that runs alone, with an engine. Where there can be none it is skipped, and says so. */
export function engineTest(title: string, run: (t: ExecutionContext) => Promise<void>): void {
  const reason = whyNoEngine();
  if (reason === undefined) test.serial(title, run);
  else test.serial.skip(`${title} (skipped: ${reason})`, run);
}

/** Has an engine with BASE_IMAGE ready before the file's tests; one that is started here is stopped after them. */
export function useEngine(): void {
  let stop = async (): Promise<void> => {};
  test.serial.before(async () => {
    if (whyNoEngine() !== undefined) return;
    stop = await startEngine();
    await makeBaseImage();
  });
  undoAfterAll(() => stop());
}
