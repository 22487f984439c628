// A checked command, applied to a draft: which module does which.

import type { Command } from "../cluster/commands.ts";
import type { Draft } from "../cluster/state.ts";
import { attach, detach } from "./attachments.ts";
import type { LeaderContext } from "./context.ts";
import { createEndpoint, removeEndpoint } from "./endpoints.ts";
import { addExternal, removeExternal } from "./external.ts";
import { addUser, removeUser, rotateAuthority, rotateToken, setRole, updateSettings } from "./members.ts";
import { createNetwork, removeNetwork } from "./networks.ts";
import { leaveNode, removeNode, setAvailability } from "./nodes.ts";
import { requireUnreserved, withoutReserved } from "./reserved-names.ts";
import { createService, removeService, scaleService } from "./services.ts";

/** The id of the row that was made, changed or removed. Throws UserError. */
export function applyCommand(draft: Draft, asked: Command, context: LeaderContext): string {
  requireUnreserved(asked, context.domain);
  const command = withoutReserved(asked, context.domain);
  switch (command.type) {
    case "network.create":
      return createNetwork(draft, command, context);
    case "network.remove":
      return removeNetwork(draft, command.name);
    case "service.create":
      return createService(draft, command, context);
    case "service.scale":
      return scaleService(draft, command.name, command.replicas, context.now);
    case "service.remove":
      return removeService(draft, command.name);
    case "endpoint.create":
      return createEndpoint(draft, command, null, context);
    case "endpoint.remove":
      return removeEndpoint(draft, command.id);
    case "external.add":
      return addExternal(draft, command, context);
    case "external.remove":
      return removeExternal(draft, command.name);
    case "attach":
      return attach(draft, command, context);
    case "detach":
      return detach(draft, command.id);
    case "node.availability":
      return setAvailability(draft, command.name, command.availability);
    case "node.remove":
      return removeNode(draft, command, context);
    case "node.leave":
      return leaveNode(draft, command.node);
    case "node.promote":
      return setRole(draft, command.name, "manager");
    case "node.demote":
      return setRole(draft, command.name, "worker");
    case "token.rotate":
      return rotateToken(draft, command.role, context);
    case "user.add":
      return addUser(draft, command, context);
    case "user.remove":
      return removeUser(draft, command.name);
    case "settings.update":
      return updateSettings(draft, command);
    case "authority.rotate":
      return rotateAuthority(draft, command);
  }
}
