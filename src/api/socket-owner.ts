// Who may open the local socket: root, and the members of the group `overlayd` where the machine has that group. Such a
// user is as good as root on the machine, for a task may run any program.
import { readFileSync } from "node:fs";

const GROUP = "overlayd";
const GROUP_FILE = "/etc/group";
const OWNER_ONLY = 0o600;
const WITH_GROUP = 0o660;

export interface SocketOwner {
  /** The id of the group that may open the socket; undefined: the owner alone. */
  group: number | undefined;
  mode: number;
}

/** Only root may give a file to a group that it is not in. */
export function ownerOfSocket(groups = readGroups(), isRoot = process.geteuid?.() === 0): SocketOwner {
  const group = isRoot ? idOf(groups) : undefined;
  return { group, mode: group === undefined ? OWNER_ONLY : WITH_GROUP };
}

/** Lines are NAME:PASSWORD:ID:MEMBERS, group(5). */
function idOf(groups: string): number | undefined {
  const id = new RegExp(`^${GROUP}:[^:]*:(\\d+):`, "m").exec(groups)?.[1];
  return id === undefined ? undefined : Number(id);
}

function readGroups(): string {
  try {
    return readFileSync(GROUP_FILE, "utf8");
  } catch {
    return ""; // a container's image may have none
  }
}
