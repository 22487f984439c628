// A checked command, carried out on a draft: which module does which.

import type { Command } from "../cluster/commands.ts";
import type { Draft } from "../cluster/state.ts";
import { attach, detach } from "./attachments.ts";
import { createEndpoint, removeEndpoint } from "./endpoints.ts";
import { addExternal, removeExternal } from "./external.ts";
import { createNetwork, removeNetwork } from "./networks.ts";
import { type NodeContext, removeNode, setAvailability } from "./nodes.ts";
import type { ReservedPort } from "./publishing.ts";
import { requireUnreserved, withoutReserved } from "./reserved-names.ts";
import { createService, removeService, scaleService } from "./services.ts";

export interface CommandContext extends NodeContext {
  reservedPorts: readonly ReservedPort[];
  /** In DNS. */
  domain: string;
}

/** The id of the row that was made, changed or removed. Throws UserError. */
export function carryOut(draft: Draft, asked: Command, context: CommandContext): string {
  const { now, newId, pool, reservedPorts } = context;
  requireUnreserved(asked, context.domain);
  const command = withoutReserved(asked, context.domain);
  switch (command.type) {
    case "network.create":
      return createNetwork(draft, command, pool, now, newId);
    case "network.remove":
      return removeNetwork(draft, command.name);
    case "service.create":
      return createService(draft, command, reservedPorts, now, newId);
    case "service.scale":
      return scaleService(draft, command.name, command.replicas, now);
    case "service.remove":
      return removeService(draft, command.name);
    case "endpoint.create":
      return createEndpoint(draft, command, null, now, newId);
    case "endpoint.remove":
      return removeEndpoint(draft, command.id);
    case "external.add":
      return addExternal(draft, command, now, newId);
    case "external.remove":
      return removeExternal(draft, command.name);
    case "attach":
      return attach(draft, command, reservedPorts, now, newId);
    case "detach":
      return detach(draft, command.id);
    case "node.availability":
      return setAvailability(draft, command.name, command.availability);
    case "node.remove":
      return removeNode(draft, command.name, context);
  }
}
