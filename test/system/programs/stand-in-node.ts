// Registers a node that runs no agent, so that something else can be its VTEP, and gets it an endpoint on a network.
// Arguments: MANAGER NAME ADDRESS NETWORK. Prints `registered`, then keeps the session until it is killed.
import type { StreamMessage } from "../../../src/cluster/protocol.ts";
import { httpTransport } from "../../../src/cluster/transport.ts";

const [manager = "", name = "", address = "", network = ""] = process.argv.slice(2);
const identity = { name, address, vxlanPort: 4789, manager: false };

/** Takes no tasks, and has one container, named as the node is. */
async function settle(node: string): Promise<void> {
  await httpTransport.execute(manager, { type: "node.availability", name, availability: "drain" });
  await httpTransport.execute(manager, { type: "endpoint.create", node, network, name });
  console.log("registered");
}

let sessionId = "";
let applied = 0;
const report = () => httpTransport.report(manager, sessionId, { statuses: [], full: false, gone: [], applied });

for await (const line of httpTransport.open(manager, identity, new AbortController().signal)) {
  const message = line as StreamMessage;
  if (message.type === "session") {
    sessionId = message.sessionId;
    setInterval(report, message.livenessMs / 5);
    void settle(message.nodeId);
  } else if (message.type === "snapshot") {
    applied = message.state.revision;
    await report();
  } else if (message.type === "changes") {
    applied = message.revision;
    await report();
  }
}
