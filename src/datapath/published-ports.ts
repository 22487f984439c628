// Published ports as containers meet them: on their gateway, on this node's addresses and on other nodes'. From outside,
// nftables brings clients to the same VIPs (src/mesh).
import type { Ipv4 } from "../lib/ip.ts";
import type { HeldPortRow, NodeRow, VipRow } from "./rows.ts";

interface Entrance {
  /** 0: every address. */
  address: Ipv4;
  vip: VipRow;
}

export class PublishedPorts {
  readonly #entrancesByPort = new Map<number, Entrance[]>(); // BOUNDED: 131,072 ports; keyed by portKey()
  readonly #heldByPort = new Map<number, Ipv4[]>(); // BOUNDED: by the published ports; keyed by portKey()

  /** Takes over the ports that processes answer. */
  learnNode({ heldPorts }: NodeRow): void {
    this.#heldByPort.clear();
    for (const { protocol, port, address } of heldPorts) add(this.#heldByPort, portKey(protocol, port), address);
  }

  learn(vip: VipRow): void {
    for (const { protocol, published, address } of vip.ports ?? []) {
      add(this.#entrancesByPort, portKey(protocol, published), { address, vip });
    }
  }

  forget(vip: VipRow): void {
    for (const { protocol, published } of vip.ports ?? []) {
      const key = portKey(protocol, published);
      const left = this.#entrancesByPort.get(key)?.filter((entrance) => entrance.vip !== vip) ?? [];
      if (left.length === 0) this.#entrancesByPort.delete(key);
      else this.#entrancesByPort.set(key, left);
    }
  }

  /** The VIP behind a port of this node (`isOwn`) or another one. Hot path for new flows: must not allocate. */
  find(protocol: number, port: number, address: Ipv4, isOwn: boolean): VipRow | undefined {
    const key = portKey(protocol, port);
    const entrances = this.#entrancesByPort.get(key);
    if (entrances === undefined || this.#isHeld(key, address, isOwn)) return undefined;
    for (let i = 0; i < entrances.length; i++) {
      const entrance = entrances[i]!;
      if (entrance.vip.hostMode && !isOwn) continue;
      if (entrance.address === 0 || entrance.address === address) return entrance.vip;
    }
    return undefined;
  }

  #isHeld(key: number, address: Ipv4, isOwn: boolean): boolean {
    const holders = this.#heldByPort.get(key);
    return holders !== undefined && (holders.includes(address) || (isOwn && holders.includes(0)));
  }
}

/** Protocol and port in one small integer. */
function portKey(protocol: HeldPortRow["protocol"], port: number): number {
  return (protocol << 16) | port;
}

function add<T>(lists: Map<number, T[]>, key: number, item: T): void {
  const list = lists.get(key);
  if (list === undefined) lists.set(key, [item]);
  else list.push(item);
}
