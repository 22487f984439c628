// Declares a system test file: serial tests as root, on one lab that lasts for the file.
import test, { type ExecutionContext } from "ava";
import { createLab, type Lab, type LabOptions } from "./lab.ts";
import { undoAfterAll } from "./undo.ts";

const isRoot = process.getuid?.() === 0;

/** A test that runs alone, on the real kernel. Without root it is skipped, and says so. */
export function systemTest(title: string, run: (t: ExecutionContext) => Promise<void>): void {
  if (isRoot) test.serial(title, run);
  else test.serial.skip(`${title} (skipped: needs root)`, run);
}

interface Preparation {
  /** What must be there before the agents start. */
  beforeAgents?: (lab: Lab) => Promise<void>;
}

/** Builds the lab before the file's tests and starts its agents; `prepare` may make what all of them need. */
export function useLab(
  options: LabOptions,
  prepare?: (lab: Lab) => Promise<void>,
  { beforeAgents }: Preparation = {},
): () => Lab {
  let lab: Lab | undefined;
  test.serial.before(async () => {
    lab = await createLab(options);
    await beforeAgents?.(lab);
    await lab.startAgents();
    await prepare?.(lab);
  });
  test.afterEach.always((t) => {
    if (!t.passed) for (const node of lab?.nodes ?? []) t.log(`the end of ${node.name}'s log:\n${node.logTail()}`);
  });
  undoAfterAll(() => lab?.teardown());
  return () => {
    if (lab === undefined) throw new Error("the lab is used before it is built");
    return lab;
  };
}
