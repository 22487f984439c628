// What the state says of attached containers and network namespaces: endpoints and tasks, in one form.
import type { CommandInput, CommandResult } from "../cluster/commands.ts";
import type { Attachment, Endpoint, Service, Task } from "../cluster/schema.ts";
import type { State } from "../cluster/tables.ts";
import { UserError } from "../lib/errors.ts";
import type { AttachmentSpec } from "./labels.ts";
import { attachCommand, type NamedSubject } from "./subject.ts";

export interface AttachedRow {
  /** The id of the endpoint or task. */
  id: string;
  nodeId: string;
  attachment: Attachment;
  /** In the order of its links. */
  links: { networkId: string; address: string }[];
  /** The service of a task; undefined: it is an endpoint. */
  service: Service | undefined;
  createdAt: number;
}

interface OwnRowsOptions {
  namespaces: { unbind(subject: string): Promise<void> };
  state(): State | undefined;
  nodeId(): string | undefined;
  execute(command: CommandInput): Promise<CommandResult>;
}

/** The rows of this node. */
export class OwnRows {
  readonly #options: OwnRowsOptions;

  constructor(options: OwnRowsOptions) {
    this.#options = options;
  }

  all(): AttachedRow[] {
    const [state, nodeId] = [this.#options.state(), this.#options.nodeId()];
    return state === undefined || nodeId === undefined ? [] : rowsOfNode(state, nodeId);
  }

  has(subject: string): boolean {
    const [state, own] = [this.#options.state(), this.#options.nodeId()];
    return state !== undefined && rowsOfSubject(state, subject).some(({ nodeId }) => nodeId === own);
  }

  /** Asks the leader for a row. Returns its id. Throws UserError. */
  async create(named: NamedSubject, spec: AttachmentSpec): Promise<string> {
    const { execute, nodeId } = this.#options;
    const node = nodeId();
    if (node === undefined) throw new UserError(503, "this node is not part of a cluster yet");
    return (await execute(attachCommand(node, named, spec))).id;
  }

  /** Asks the leader to remove a row; the namespace's name goes with the last row. Throws UserError. */
  async remove({ id, attachment: { subject } }: AttachedRow): Promise<void> {
    const { execute, namespaces } = this.#options;
    await execute({ type: "detach", id });
    if (!this.has(subject)) await namespaces.unbind(subject);
  }
}

/** The rows of one node. It costs what the node has. */
function rowsOfNode(state: State, nodeId: string): AttachedRow[] {
  return rowsOf(state, state.tasks.by("node", nodeId), state.endpoints.by("node", nodeId));
}

/** The rows of one container or namespace, on whichever node: agents may share an engine. */
export function rowsOfSubject(state: State, subject: string): AttachedRow[] {
  return rowsOf(state, state.tasks.by("subject", subject), state.endpoints.by("subject", subject));
}

function rowsOf(state: State, tasks: readonly Task[], endpoints: readonly Endpoint[]): AttachedRow[] {
  const rows: AttachedRow[] = [];
  for (const { id, nodeId, attachment, addresses, serviceId, createdAt } of tasks) {
    if (attachment === null || nodeId === null) continue;
    const service = state.services.get(serviceId);
    const networks = service?.networks ?? Object.keys(addresses);
    const links = networks.flatMap((networkId) => {
      const address = addresses[networkId];
      return address === undefined ? [] : [{ networkId, address }];
    });
    rows.push({ id, nodeId, attachment, links, service, createdAt });
  }
  for (const { id, nodeId, attachment, networkId, address, createdAt } of endpoints) {
    if (attachment === null || nodeId === null) continue;
    rows.push({ id, nodeId, attachment, links: [{ networkId, address }], service: undefined, createdAt });
  }
  return rows;
}
