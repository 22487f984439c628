// What the tests of several managers share.
import type { ExecutionContext } from "ava";
import { waitFor } from "./command.ts";
import type { LabNode } from "./lab.ts";

/** Writes on one of the nodes until that succeeds, and returns on which. */
export async function untilWritten(nodes: readonly LabNode[], network: string): Promise<void> {
  await waitFor(
    async () => {
      for (const node of nodes) {
        const { status, stderr } = await node.tryExec(["overlayctl", "network", "create", network]);
        if (status === 0 || stderr.includes("exists")) return true;
      }
      return undefined;
    },
    { what: "a write to succeed" },
  );
}

/** Waits until the node's state has all of them. */
export async function hasNetworks(t: ExecutionContext, node: LabNode, networks: readonly string[]): Promise<void> {
  const missing = async (): Promise<string[]> => {
    const found = (await node.ctlJson<{ name: string }[]>("network", "ls")).map(({ name }) => name);
    return networks.filter((name) => !found.includes(name));
  };
  await waitFor(async () => (await missing()).length === 0, { what: `${node.name} to have ${networks.join(", ")}` });
  t.pass();
}
