// Random changes of a small cluster whose names collide on purpose: services, aliases and containers' names are taken from
// the same few words, with dots and without.
import type { Attachment, Change, Endpoint, Service, Task, TaskState } from "../../src/cluster/schema.ts";
import type { Random } from "../../src/lib/random.ts";
import { idOf, networkRow, nodeRow, serviceRow, taskRow } from "./example-state.ts";

const NETWORKS = ["ingress", "web", "back", "lab.net", "corp"];
const NODES = ["node1", "node2", "search"];
const SERVICES = ["search", "db", "x"];
const ALIASES = [
  "db",
  "cache",
  "search",
  "db.corp",
  "a.db.corp",
  "search.web",
  "tasks.x",
  "Cache.Lab.Net",
  "x.1",
  "node1",
];
const SLOTS = [1, 2, 3];
const SUBJECTS = ["a".repeat(64), "b".repeat(64), "netns:app"];
const STATES: TaskState[] = ["running", "running", "running", "starting", "complete"];
export const VTEPS = NODES.map((_, i) => `192.0.2.${11 + i}`);
const OUTSIDE = ["198.51.100.1", "127.0.0.1", "10.192.16.250", "10.255.0.1"];

const subnetOf = (network: string): string => `10.192.${16 * NETWORKS.indexOf(network)}.0/20`;
const addressOn = (network: string, host: number): string => `10.192.${16 * NETWORKS.indexOf(network)}.${host}`;
const hostOfTask = (service: number, slot: number): number => 100 + 10 * service + slot;
const hostOfVip = (service: number): number => 50 + service;
const hostOfEndpoint = (index: number): number => 150 + index;
const ENDPOINTS = [0, 1, 2, 3, 4];

/** Every address that anything may have, and some that nothing has. */
export const ADDRESSES = [
  ...NETWORKS.flatMap((network) => [
    addressOn(network, 1),
    ...SERVICES.flatMap((_, i) => [
      addressOn(network, hostOfVip(i)),
      ...SLOTS.map((slot) => addressOn(network, hostOfTask(i, slot))),
    ]),
    ...ENDPOINTS.map((i) => addressOn(network, hostOfEndpoint(i))),
  ]),
  ...NODES.map((_, i) => addressOn("ingress", 10 + i)),
  ...SERVICES.map((_, i) => addressOn("ingress", 30 + i)),
  ...VTEPS,
  ...OUTSIDE,
];
export const GATEWAYS = NETWORKS.map((network) => addressOn(network, 1));

/** Every name that anything may have, those below and above it, and some that nothing has. */
export const NAMES = (() => {
  const words = [
    ...SERVICES,
    ...ALIASES,
    "gateway",
    "node1",
    "node2",
    "nothing",
    "1",
    "2",
    "corp",
    "net",
    "lab.net",
    "web",
  ];
  const bases = [
    ...words,
    ...words.map((word) => `tasks.${word}`),
    ...SERVICES.flatMap((s) => SLOTS.map((n) => `${s}.${n}`)),
  ];
  const lower = [
    ...new Set(bases.map((name) => name.toLowerCase())),
    ...ENDPOINTS.map((i) => idOf(`endpoint${i}`).slice(0, 12)),
  ];
  const onNetworks = lower.flatMap((name) => [name, ...NETWORKS.map((network) => `${name}.${network}`)]);
  return onNetworks.flatMap((name) => [name, `${name}.overlay`]);
})();

export class RandomChanges {
  readonly #random: Random;

  constructor(random: Random) {
    this.#random = random;
  }

  /** All nodes and networks. */
  first(): Change[] {
    return [...NODES.map((_, i) => this.node(i)), ...NETWORKS.map((name) => this.network(name))];
  }

  next(): Change {
    const often = ["service", "task", "status", "endpoint"] as const;
    const kind = this.#random() < 0.9 ? this.#one(often) : this.#one(["node", "network"] as const);
    const isRemoved = this.#random() < 0.2;
    const change = this[kind]();
    return isRemoved ? ({ ...change, row: null } as Change) : change;
  }

  service(): Change {
    const i = this.#below(SERVICES.length);
    const networks = NETWORKS.filter((name) => name !== "ingress" && this.#random() < 0.5);
    const isVip = this.#random() < 0.5;
    const row: Service = serviceRow(SERVICES[i]!, {
      networks: networks.map(idOf),
      aliases: Object.fromEntries(networks.map((name) => [idOf(name), this.#some(ALIASES, 3)])),
      endpointMode: isVip ? "vip" : "dnsrr",
      vips: Object.fromEntries(isVip ? networks.map((name) => [idOf(name), addressOn(name, hostOfVip(i))]) : []),
      dnsTtlSeconds: this.#below(9),
      labels: this.#random() < 0.5 ? { tier: `${i}` } : {},
      ports:
        this.#random() < 0.5
          ? []
          : [{ published: 80, target: 80 + i, protocol: "tcp", mode: "ingress", address: null }],
      meshVip: this.#random() < 0.5 ? null : addressOn("ingress", 30 + i),
    });
    return { kind: "services", key: row.id, row };
  }

  task(): Change {
    const i = this.#below(SERVICES.length);
    const slot = this.#one(SLOTS);
    const networks = NETWORKS.filter((name) => name !== "ingress" && this.#random() < 0.6);
    const addresses = Object.fromEntries(networks.map((name) => [idOf(name), addressOn(name, hostOfTask(i, slot))]));
    const row: Task = {
      ...taskRow(SERVICES[i]!, slot, addresses),
      nodeId: this.#random() < 0.1 ? null : idOf(this.#one(NODES)),
      desired: this.#random() < 0.8 ? "running" : "draining",
      attachment: this.#random() < 0.4 ? this.#attachment() : null,
      error: this.#random() < 0.5 ? null : "not of interest",
    };
    return { kind: "tasks", key: row.id, row };
  }

  status(): Change {
    const isTask = this.#random() < 0.6;
    const taskId = isTask
      ? idOf(`${this.#one(SERVICES)}task${this.#one(SLOTS)}`)
      : idOf(`endpoint${this.#one(ENDPOINTS)}`);
    const observed = { since: this.#below(99), error: null, exitCode: null, message: null, restarts: 0 };
    const row = { taskId, nodeId: idOf(this.#one(NODES)), state: this.#one(STATES), ...observed };
    return { kind: "statuses", key: taskId, row };
  }

  endpoint(): Change {
    const i = this.#one(ENDPOINTS);
    const network = this.#one(NETWORKS.slice(1));
    const attachment = this.#random() < 0.6 ? this.#attachment() : null;
    const row: Endpoint = {
      id: idOf(`endpoint${i}`),
      name: this.#random() < 0.5 ? this.#one(ALIASES) : null,
      nodeId: attachment === null && this.#random() < 0.2 ? null : idOf(this.#one(NODES)),
      networkId: idOf(network),
      address: addressOn(network, hostOfEndpoint(i)),
      attachment,
      external: null,
      dnsServers: this.#some(["192.0.2.53", "192.0.2.54"], 2),
      createdAt: 0,
    };
    return { kind: "endpoints", key: row.id, row };
  }

  node(i = this.#below(NODES.length)): Change {
    const plain = nodeRow(NODES[i]!, VTEPS[i]!, addressOn("ingress", 10 + i));
    const row = { ...plain, state: this.#random() < 0.8 ? ("ready" as const) : ("down" as const) };
    return { kind: "nodes", key: row.id, row: { ...row, docker: this.#random() < 0.5 } };
  }

  network(name = this.#one(NETWORKS)): Change {
    const row = networkRow(name, 2 + NETWORKS.indexOf(name), subnetOf(name), addressOn(name, 1));
    return { kind: "networks", key: row.id, row };
  }

  #attachment(): Attachment {
    const names = { name: "app", image: null, aliases: this.#some(ALIASES, 2), hostNames: this.#some(ALIASES, 1) };
    return { subject: this.#one(SUBJECTS), ...names };
  }

  #some<T>(from: readonly T[], most: number): T[] {
    return [...new Set(Array.from({ length: this.#below(most + 1) }, () => this.#one(from)))];
  }

  #one<T>(from: readonly T[]): T {
    return from[this.#below(from.length)]!;
  }

  #below(bound: number): number {
    return Math.floor(this.#random() * bound);
  }
}
