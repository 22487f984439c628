// The tables of the state: rows by key, and by what else they are looked up by. A table is changed in place, so that a
// change costs what it touches; an overlay holds changes over another table without touching it.
import { EVERY_ADDRESS } from "../lib/ip.ts";
import { endpointNames, hostNamesOf, parentsOf } from "./host-names.ts";
import { claimKey } from "./port-claim.ts";
import type { Attachment, ClusterIdentity, Kind, RowOf } from "./schema.ts";

const keyOfRow: { [K in Kind]: (row: RowOf<K>) => string } = {
  nodes: (node) => node.id,
  networks: (network) => network.id,
  services: (service) => service.id,
  tasks: (task) => task.id,
  endpoints: (endpoint) => endpoint.id,
  allocations: (allocation) => allocation.address,
  ports: claimKey,
  statuses: (status) => status.taskId,
};

/** The key of a row in its table. */
export function keyOf<K extends Kind>(kind: K, row: RowOf<K>): string {
  return keyOfRow[kind](row);
}

/** The values under which an index finds a row; none: the index leaves the row out. */
type Values<R> = (row: R) => readonly string[];

function lower(name: string | null): string[] {
  return name === null ? [] : [name.toLowerCase()];
}

/** The indexes of each table. Names and aliases are in lower case. */
const INDEXES = {
  nodes: {
    name: ({ name }) => lower(name),
    /** Its VTEP. */
    address: ({ address }) => [address],
    /** Its address on the ingress network. */
    ingress: ({ ingressAddress }) => [ingressAddress],
    state: ({ state }) => [state],
    vxlanPort: ({ vxlanPort }) => [String(vxlanPort)],
    /** `manager`: a manager runs on it. */
    role: ({ manager }) => (manager ? ["manager"] : []),
    /** Each of its addresses, its VTEP among them. */
    anyAddress: ({ address, addresses }) => [...new Set([address, ...addresses])],
    /** Each address on which its processes hold published ports: its VTEP for those that they hold on every address. */
    heldAt: ({ address, heldPorts }) => [
      ...new Set(heldPorts.map((held) => (held.address === EVERY_ADDRESS ? address : held.address))),
    ],
  },
  networks: { name: ({ name }) => lower(name), subnet: ({ subnet }) => [subnet], vni: ({ vni }) => [String(vni)] },
  services: {
    name: ({ name }) => lower(name),
    network: ({ networks }) => networks,
    /** NETWORK/ALIAS. */
    alias: ({ aliases }) =>
      Object.entries(aliases).flatMap(([network, names]) => names.map((name) => `${network}/${name.toLowerCase()}`)),
    /** NETWORK/PARENT, of its aliases with dots. */
    parent: ({ aliases }) => Object.entries(aliases).flatMap(([network, names]) => parentsOn(network, names)),
    /** Its virtual IPs, that for published ports among them. */
    address: ({ vips, meshVip }) => [...Object.values(vips), ...(meshVip === null ? [] : [meshVip])],
    /** `empty`: it came with its first attached container and may go with its last. `secret`: not every node may read it. */
    kind: ({ workload }) => {
      if (workload === null) return ["attached"];
      return workload.runtime === "docker" && workload.registryAuth !== null ? ["secret"] : [];
    },
    /** `any`: it publishes ports. */
    published: ({ ports }) => (ports.length > 0 ? ["any"] : []),
  },
  tasks: {
    service: ({ serviceId }) => [serviceId],
    node: ({ nodeId }) => (nodeId === null ? [] : [nodeId]),
    /** Each of its addresses. */
    address: ({ addresses }) => Object.values(addresses),
    network: ({ addresses }) => Object.keys(addresses),
    /** NETWORK/SLOT. */
    slot: ({ addresses, slot }) => Object.keys(addresses).map((id) => `${id}/${slot}`),
    /** The container or namespace that is attached. */
    subject: ({ attachment }) => (attachment === null ? [] : [attachment.subject]),
    /** NETWORK/ALIAS, of an attached container. */
    alias: ({ addresses, attachment }) =>
      attachment === null ? [] : Object.keys(addresses).flatMap((id) => aliasesOn(id, attachment)),
    /** NETWORK/PARENT, of its aliases with dots. */
    parent: ({ addresses, attachment }) =>
      attachment === null ? [] : Object.keys(addresses).flatMap((id) => parentsOn(id, hostNamesOf(attachment))),
    /** SERVICE, NODE and SERVICE/NODE, of a task that its service wants to run. */
    wanted: ({ desired, serviceId, nodeId, attachment }) => {
      if (desired !== "running" || attachment !== null) return [];
      return nodeId === null ? [serviceId] : [serviceId, nodeId, `${serviceId}/${nodeId}`];
    },
    /** SERVICE/NODE, of one that is to run, attached or not. */
    running: ({ desired, serviceId, nodeId }) =>
      desired === "running" && nodeId !== null ? [`${serviceId}/${nodeId}`] : [],
    /** What the scheduler has yet to do with it. */
    todo: ({ desired, nodeId, attachment }) => {
      if (desired !== "running") return [desired];
      return nodeId === null && attachment === null ? ["place"] : [];
    },
  },
  endpoints: {
    node: ({ nodeId }) => (nodeId === null ? [] : [nodeId]),
    network: ({ networkId }) => [networkId],
    address: ({ address }) => [address],
    name: ({ name }) => lower(name),
    subject: ({ attachment }) => (attachment === null ? [] : [attachment.subject]),
    /** NETWORK/ALIAS, of an attached container. */
    alias: ({ networkId, attachment }) => (attachment === null ? [] : aliasesOn(networkId, attachment)),
    /** NETWORK/NAME, of each of its names. */
    host: (endpoint) => endpointNames(endpoint).map((name) => `${endpoint.networkId}/${name.toLowerCase()}`),
    /** NETWORK/PARENT, of its names with dots. */
    parent: (endpoint) => parentsOn(endpoint.networkId, endpointNames(endpoint)),
    /** The VTEP of an external endpoint. */
    vtep: ({ external }) => (external === null ? [] : [external.vtep]),
  },
  allocations: {
    network: ({ networkId }) => [networkId],
    todo: ({ releasedAt }) => (releasedAt === null ? [] : ["free"]),
  },
  ports: {
    /** PORT/PROTOCOL. */
    number: ({ port, protocol }) => [`${port}/${protocol}`],
    service: ({ serviceId }) => [serviceId],
  },
  statuses: { node: ({ nodeId }) => [nodeId] },
} as const satisfies { [K in Kind]: Record<string, Values<RowOf<K>>> };

function aliasesOn(networkId: string, attachment: Attachment): string[] {
  return hostNamesOf(attachment).map((name) => `${networkId}/${name.toLowerCase()}`);
}

function parentsOn(networkId: string, names: readonly string[]): string[] {
  return names.flatMap((name) => parentsOf(name.toLowerCase()).map((parent) => `${networkId}/${parent}`));
}

export type IndexOf<K extends Kind> = keyof (typeof INDEXES)[K] & string;

/** A table as readers see it. The order is that of the rows' first appearance. */
export interface Rows<K extends Kind> extends ReadonlyMap<string, RowOf<K>> {
  /** The rows that the index has under `value`, a new array. The index is built when it is first asked. */
  by(index: IndexOf<K>, value: string): RowOf<K>[];
  /** How many rows those are, without a loop over them. */
  count(index: IndexOf<K>, value: string): number;
  /** Another number after each change. */
  readonly version: number;
}

/** The state as readers see it; see LiveState for how it is changed. `cluster` is null in an empty one. */
export type State = { readonly revision: number; readonly cluster: ClusterIdentity | null } & {
  readonly [K in Kind]: Rows<K>;
};

/** One row, or several by their keys: most values of most indexes have one, and a Map for each would be dear. */
type Bucket<R> = R | Map<string, R>;

/** Rows that are changed in place. */
export class Table<K extends Kind> implements Rows<K> {
  readonly #kind: K;
  // BOUNDED: by the cluster's state; keyed by the row's key.
  readonly #rows: Map<string, RowOf<K>>;
  // BOUNDED: by the indexes of the kind that were asked; each has what the rows have.
  readonly #buckets = new Map<IndexOf<K>, Map<string, Bucket<RowOf<K>>>>();
  #version = 0;

  constructor(kind: K, rows: Iterable<readonly [string, RowOf<K>]> = []) {
    this.#kind = kind;
    this.#rows = new Map(rows);
  }

  get size(): number {
    return this.#rows.size;
  }

  get version(): number {
    return this.#version;
  }

  get(key: string): RowOf<K> | undefined {
    return this.#rows.get(key);
  }

  has(key: string): boolean {
    return this.#rows.has(key);
  }

  keys(): MapIterator<string> {
    return this.#rows.keys();
  }

  values(): MapIterator<RowOf<K>> {
    return this.#rows.values();
  }

  entries(): MapIterator<[string, RowOf<K>]> {
    return this.#rows.entries();
  }

  [Symbol.iterator](): MapIterator<[string, RowOf<K>]> {
    return this.#rows.entries();
  }

  forEach(each: (row: RowOf<K>, key: string, rows: ReadonlyMap<string, RowOf<K>>) => void): void {
    this.#rows.forEach((row, key) => void each(row, key, this));
  }

  by(index: IndexOf<K>, value: string): RowOf<K>[] {
    const bucket = this.#bucketsOf(index).get(value);
    if (bucket === undefined) return [];
    return bucket instanceof Map ? [...bucket.values()] : [bucket];
  }

  count(index: IndexOf<K>, value: string): number {
    const bucket = this.#bucketsOf(index).get(value);
    if (bucket === undefined) return 0;
    return bucket instanceof Map ? bucket.size : 1;
  }

  /** Puts the row, or deletes it with null. Returns the row that was there. */
  set(key: string, row: RowOf<K> | null): RowOf<K> | undefined {
    const before = this.#rows.get(key);
    if (row !== null) this.#rows.set(key, row);
    else if (before === undefined) return undefined;
    else this.#rows.delete(key);
    this.#version++;
    for (const [index, buckets] of this.#buckets) {
      const valuesOf = valuesIn(this.#kind, index);
      const [left, kept] = [before === undefined ? [] : valuesOf(before), row === null ? [] : valuesOf(row)];
      for (const value of left) if (!kept.includes(value)) leave(buckets, value, key);
      if (row !== null) for (const value of kept) enter(buckets, value, key, row, (other) => keyOf(this.#kind, other));
    }
    return before;
  }

  copy(): Table<K> {
    return new Table(this.#kind, this.#rows);
  }

  #bucketsOf(index: IndexOf<K>): Map<string, Bucket<RowOf<K>>> {
    const known = this.#buckets.get(index);
    if (known !== undefined) return known;
    const buckets = new Map<string, Bucket<RowOf<K>>>();
    const valuesOf = valuesIn(this.#kind, index);
    for (const [key, row] of this.#rows)
      for (const value of valuesOf(row)) enter(buckets, value, key, row, (other) => keyOf(this.#kind, other));
    this.#buckets.set(index, buckets);
    return buckets;
  }
}

/** A row may say a value twice, such as one alias in two spellings: the index has it once. */
function valuesIn<K extends Kind>(kind: K, index: IndexOf<K>): Values<RowOf<K>> {
  const valuesOf = (INDEXES[kind] as unknown as Record<string, Values<RowOf<K>>>)[index]!;
  return (row) => {
    const values = valuesOf(row);
    return values.length < 2 ? values : [...new Set(values)];
  };
}

function enter<R>(
  buckets: Map<string, Bucket<R>>,
  value: string,
  key: string,
  row: R,
  keyOf: (row: R) => string,
): void {
  const bucket = buckets.get(value);
  if (bucket instanceof Map) bucket.set(key, row);
  else if (bucket === undefined || keyOf(bucket) === key) buckets.set(value, row);
  else {
    buckets.set(
      value,
      new Map([
        [keyOf(bucket), bucket],
        [key, row],
      ]),
    );
  }
}

function leave<R>(buckets: Map<string, Bucket<R>>, value: string, key: string): void {
  const bucket = buckets.get(value);
  if (!(bucket instanceof Map)) {
    buckets.delete(value);
    return;
  }
  bucket.delete(key);
  if (bucket.size === 0) buckets.delete(value);
}

/** A table with changes over it: readers see both as one, and the table below is not touched. It must not change meanwhile. */
export class Overlay<K extends Kind> implements Rows<K> {
  readonly #kind: K;
  readonly #base: Rows<K>;
  /** Rows that are new, or in place of those of the base. */
  readonly #put: Table<K>;
  // BOUNDED: by the base.
  readonly #removed = new Set<string>();
  // BOUNDED: by the indexes that were asked, and the values of the changed rows. How many rows more than in the base.
  readonly #more = new Map<IndexOf<K>, Map<string, number>>();
  #size: number;
  #version: number;

  constructor(kind: K, base: Rows<K>) {
    this.#kind = kind;
    this.#base = base;
    this.#put = new Table(kind);
    this.#size = base.size;
    this.#version = base.version;
  }

  get size(): number {
    return this.#size;
  }

  get version(): number {
    return this.#version;
  }

  get(key: string): RowOf<K> | undefined {
    return this.#put.get(key) ?? (this.#removed.has(key) ? undefined : this.#base.get(key));
  }

  has(key: string): boolean {
    return this.get(key) !== undefined;
  }

  *entries(): Generator<[string, RowOf<K>], undefined, unknown> {
    for (const [key, row] of this.#base) if (!this.#removed.has(key)) yield [key, this.#put.get(key) ?? row];
    for (const [key, row] of this.#put) if (!this.#isInBase(key)) yield [key, row];
  }

  *keys(): Generator<string, undefined, unknown> {
    for (const [key] of this.entries()) yield key;
  }

  *values(): Generator<RowOf<K>, undefined, unknown> {
    for (const [, row] of this.entries()) yield row;
  }

  [Symbol.iterator](): Generator<[string, RowOf<K>], undefined, unknown> {
    return this.entries();
  }

  forEach(each: (row: RowOf<K>, key: string, rows: ReadonlyMap<string, RowOf<K>>) => void): void {
    for (const [key, row] of this.entries()) each(row, key, this);
  }

  by(index: IndexOf<K>, value: string): RowOf<K>[] {
    const put = new Map(this.#put.by(index, value).map((row) => [keyOf(this.#kind, row), row]));
    const rows: RowOf<K>[] = [];
    for (const below of this.#base.by(index, value)) {
      const key = keyOf(this.#kind, below);
      const row = this.#put.has(key) ? put.get(key) : below;
      if (row === undefined || this.#removed.has(key)) continue;
      rows.push(row);
      put.delete(key);
    }
    rows.push(...put.values());
    return rows;
  }

  count(index: IndexOf<K>, value: string): number {
    return this.#base.count(index, value) + (this.#moreOf(index).get(value) ?? 0);
  }

  /** Puts the row, or deletes it with null. Returns the row that was there. */
  set(key: string, row: RowOf<K> | null): RowOf<K> | undefined {
    const before = this.get(key);
    if (row === null && before === undefined) return undefined;
    for (const [index, more] of this.#more) {
      const valuesOf = valuesIn(this.#kind, index);
      if (before !== undefined) add(more, valuesOf(before), -1);
      if (row !== null) add(more, valuesOf(row), 1);
    }
    this.#put.set(key, row);
    if (row !== null) this.#removed.delete(key);
    else if (this.#base.has(key)) this.#removed.add(key);
    this.#size += Number(row !== null) - Number(before !== undefined);
    this.#version++;
    return before;
  }

  #isInBase(key: string): boolean {
    return this.#base.has(key) && !this.#removed.has(key);
  }

  #moreOf(index: IndexOf<K>): Map<string, number> {
    const known = this.#more.get(index);
    if (known !== undefined) return known;
    const more = new Map<string, number>();
    const valuesOf = valuesIn(this.#kind, index);
    for (const key of [...this.#put.keys(), ...this.#removed]) {
      const [below, row] = [this.#base.get(key), this.#put.get(key)];
      if (below !== undefined) add(more, valuesOf(below), -1);
      if (row !== undefined) add(more, valuesOf(row), 1);
    }
    this.#more.set(index, more);
    return more;
  }
}

function add(counts: Map<string, number>, values: readonly string[], more: number): void {
  for (const value of new Set(values)) counts.set(value, (counts.get(value) ?? 0) + more);
}
