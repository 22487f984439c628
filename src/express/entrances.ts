// The map of published ports and of the node's own addresses, as the program at the node's links reads it: kept to what is wanted, by what
// changed. An agent before may have left some in it.
import type { Ipv4 } from "../lib/ip.ts";
import { BpfMap } from "../linux/bpf-map.ts";
import { PacketMemory } from "../packet/memory.ts";
import { ENTRANCES_SHAPE, Entrance, EntranceKey, EntranceValue } from "./layout.ts";

const BATCH = 256;
const MEMORY_BYTES = 65_536;

export interface EntranceRow {
  /** 0: every address of this node. */
  address: Ipv4;
  /** 0, of an address of this node. */
  port: number;
  protocol: number;
  kind: (typeof Entrance)[keyof typeof Entrance];
  /** As EntranceValue.Link. */
  link: number;
}

export class Entrances {
  readonly #map: BpfMap;
  readonly #view: DataView;
  /** What is in the map. BOUNDED: by the map; keyed by address, port and protocol. */
  readonly #rows = new Map<string, EntranceRow>();

  /** `fd` is the map's. Throws SyscallError. */
  constructor(fd: number) {
    const memory = new PacketMemory(MEMORY_BYTES);
    this.#map = new BpfMap(memory, fd, ENTRANCES_SHAPE, BATCH);
    this.#view = memory.view;
    for (let count = this.#map.lookupBatch(); count > 0; count = this.#map.lookupBatch()) this.#read(count);
  }

  /** How many rows are in the map. */
  get size(): number {
    return this.#rows.size;
  }

  /**
   * Makes these the rows of the map, and returns how many find no room: what is not in it is left to nftables. Ports of processes are left
   * to them first, and given back last. Throws SyscallError.
   */
  put(rows: readonly EntranceRow[]): number {
    const wanted = new Map(rows.map((row) => [keyOf(row), row]));
    const isHeld = ({ kind }: EntranceRow): boolean => kind === Entrance.Held;
    const gone = [...this.#rows].filter(([key]) => !wanted.has(key)).map(([, row]) => row);
    const changed = rows.filter((row) => !isSame(row, this.#rows.get(keyOf(row))));
    for (const row of gone) if (!isHeld(row)) this.#remove(row);
    const without = changed.filter((row) => isHeld(row) && !this.#write(row)).map(portOf);
    const isLeft = new Set(without); // processes that found no room have these ports
    for (const [key, row] of wanted) if (isLeft.has(portOf(row)) && this.#rows.has(key)) this.#remove(row);
    for (const row of changed) if (!isHeld(row) && !isLeft.has(portOf(row))) this.#write(row);
    for (const row of gone) if (isHeld(row)) this.#remove(row);
    return wanted.size - this.#rows.size;
  }

  #read(count: number): void {
    const view = this.#view;
    for (let i = 0; i < count; i++) {
      const key = this.#map.keys + i * ENTRANCES_SHAPE.keyBytes;
      const value = this.#map.values + i * ENTRANCES_SHAPE.valueBytes;
      const row = {
        address: view.getInt32(key + EntranceKey.Address),
        port: view.getUint16(key + EntranceKey.Port),
        protocol: view.getUint16(key + EntranceKey.Protocol, true),
        kind: view.getUint32(value + EntranceValue.Kind, true) as EntranceRow["kind"],
        link: view.getUint32(value + EntranceValue.Link, true),
      };
      this.#rows.set(keyOf(row), row);
    }
  }

  #aim({ address, port, protocol }: EntranceRow): void {
    this.#view.setInt32(this.#map.key + EntranceKey.Address, address);
    this.#view.setUint16(this.#map.key + EntranceKey.Port, port);
    this.#view.setUint16(this.#map.key + EntranceKey.Protocol, protocol, true);
  }

  /** False: it finds no room. */
  #write(row: EntranceRow): boolean {
    this.#aim(row);
    this.#view.setUint32(this.#map.value + EntranceValue.Kind, row.kind, true);
    this.#view.setUint32(this.#map.value + EntranceValue.Link, row.link, true);
    const isThere = this.#map.update();
    if (isThere) this.#rows.set(keyOf(row), row);
    return isThere;
  }

  #remove(row: EntranceRow): void {
    this.#aim(row);
    this.#map.delete();
    this.#rows.delete(keyOf(row));
  }
}

function keyOf({ address, port, protocol }: EntranceRow): string {
  return `${address}:${port}/${protocol}`;
}

/** Its port, on whatever address. */
function portOf({ port, protocol }: EntranceRow): string {
  return `${port}/${protocol}`;
}

function isSame(row: EntranceRow, other: EntranceRow | undefined): boolean {
  return other !== undefined && row.kind === other.kind && row.link === other.link;
}
