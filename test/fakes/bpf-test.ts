// Declares a test that loads programs into the kernel. Those of a file run one after the other.
import test, { type ExecutionContext } from "ava";
import { whatBpfLacks } from "../../src/linux/bpf-probe.ts";

const lack = whatBpfLacks();

/** Without the capabilities, or on a kernel without tcx, the test is skipped, and says so. */
export function bpfTest(title: string, run: (t: ExecutionContext) => void | Promise<void>): void {
  if (lack === undefined) test.serial(title, run);
  else test.serial.skip(`${title} (skipped: ${lack})`, run);
}
