// Which parts of rows are secrets, and the rows without them: the registry credentials of a service, the secret of a join token.
import type { Kind, RowOf, Service } from "./schema.ts";

/** The row without its secret, and the secret. */
interface Parted<R> {
  readonly row: R;
  readonly secret: string;
}

// The rows without secrets, kept as long as those with them.
const parts = new WeakMap<object, Parted<RowOf<Kind>>>();

/** The row without its secret, the same one each time; undefined: it has none. */
export function partedRow(kind: Kind, row: RowOf<Kind>): Parted<RowOf<Kind>> | undefined {
  if (kind !== "services" && kind !== "tokens") return undefined;
  const known = parts.get(row);
  if (known !== undefined) return known;
  const parted = kind === "services" ? partedService(row as Service) : partedToken(row as RowOf<"tokens">);
  if (parted !== undefined) parts.set(row, parted);
  return parted;
}

/** The row with the secret that `partedRow` took from it. */
export function wholeRow(kind: Kind, row: RowOf<Kind>, secret: string): RowOf<Kind> {
  if (kind === "tokens") return { ...(row as RowOf<"tokens">), secret };
  const service = row as Service;
  const { workload } = service;
  if (kind !== "services" || workload?.runtime !== "docker") throw new Error(`rows of ${kind} have no secrets`);
  const { isAuthWithheld: _, ...rest } = workload;
  return { ...service, workload: { ...rest, registryAuth: secret } };
}

/** The row as every node may read it: the same one each time. */
export function commonRow(kind: Kind, row: RowOf<Kind>): RowOf<Kind> {
  return partedRow(kind, row)?.row ?? row;
}

export function hasSecret(service: Service): boolean {
  return service.workload?.runtime === "docker" && service.workload.registryAuth !== null;
}

/** Whether this copy of the row lacks the credentials that the service has. */
export function isWithheld({ workload }: Service): boolean {
  return workload?.runtime === "docker" && workload.isAuthWithheld === true;
}

function partedService(service: Service): Parted<Service> | undefined {
  const { workload } = service;
  if (workload?.runtime !== "docker" || workload.registryAuth === null) return undefined;
  const row = { ...service, workload: { ...workload, registryAuth: null, isAuthWithheld: true } };
  return { row, secret: workload.registryAuth };
}

function partedToken(token: RowOf<"tokens">): Parted<RowOf<"tokens">> | undefined {
  return token.secret === "" ? undefined : { row: { ...token, secret: "" }, secret: token.secret };
}
