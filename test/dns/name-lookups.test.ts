// Names that are looked up on demand, after any random changes: as the rules say of the whole state, and what no change
// touched is as before.
import test, { type ExecutionContext } from "ava";
import { LiveState } from "../../src/cluster/state.ts";
import { dependenciesOf } from "../../src/dns/answer-cache.ts";
import { Names } from "../../src/dns/names.ts";
import { formatIpv4, ipv4 } from "../../src/lib/ip.ts";
import type { Random } from "../../src/lib/random.ts";
import { seededRandom } from "../fakes/seeded-random.ts";
import { NameRules, type Said } from "./name-rules.ts";
import { ADDRESSES, GATEWAYS, NAMES, RandomChanges, VTEPS } from "./random-state.ts";

const STEPS = 200;
const CLIENTS = 4;
const SHARE_OF_NAMES = 0.1;

const sorted = (some: Iterable<string>): string[] => [...new Set(some)].toSorted();

class Cluster {
  readonly #random: Random;
  readonly #changes: RandomChanges;
  readonly state = new LiveState();
  readonly names = new Names(this.state);
  unreachable: string[] = [];
  #touched: readonly string[] | "all" = [];

  constructor(random: Random) {
    this.#random = random;
    this.#changes = new RandomChanges(random);
    this.state.apply(this.#changes.first(), 1);
    this.names.onTouched = (touched) => {
      this.#touched = touched;
    };
  }

  /** Changes something. Returns what that touched. */
  step(): readonly string[] | "all" {
    this.#touched = [];
    if (this.#random() < 0.05) {
      this.unreachable = VTEPS.filter(() => this.#random() < 0.4);
      this.names.setUnreachable(this.unreachable.map(ipv4));
    } else {
      const changes = Array.from({ length: 1 + Math.floor(this.#random() * 3) }, () => this.#changes.next());
      this.names.changed(this.state.apply(changes, this.state.revision + 1));
    }
    return this.#touched;
  }

  some<T>(from: readonly T[], count: number): T[] {
    return Array.from({ length: count }, () => from[Math.floor(this.#random() * from.length)]!);
  }
}

interface Client {
  readonly address: string;
  readonly gateway: string;
}

/** What the client is told of the name, and the keys that this depends on; undefined: there is no such name. */
function toldOf(names: Names, { address, gateway }: Client, name: string): { said: Said; keys: string[] } | undefined {
  const [client, via] = [ipv4(address), ipv4(gateway)];
  const networks = names.networksOf(client, via) ?? [];
  const found = names.find(name, networks);
  if (found === undefined) return undefined;
  const { network, entry } = found;
  const said = {
    network: network.name,
    addresses: sorted(entry.addresses.map(formatIpv4)),
    ttl: entry.ttlSeconds,
    ports: sorted(entry.ports),
    labels: sorted(entry.labels),
  };
  return { said, keys: dependenciesOf(name, { address: client, via, names, networks }) ?? [] };
}

function checkRules(
  t: ExecutionContext,
  { names, state, unreachable }: Cluster,
  client: Client,
  asked: readonly string[],
) {
  const rules = new NameRules(state, unreachable);
  const networks = names.networksOf(ipv4(client.address), ipv4(client.gateway)) ?? [];
  const expected = rules.networksOf(client.address, client.gateway);
  t.deepEqual(
    networks.map(({ id }) => id),
    expected,
    `networks of ${client.address}`,
  );
  for (const name of asked) {
    const said = rules.find(name, expected);
    const title = `${client.address} asks ${client.gateway} for ${name}`;
    t.deepEqual(toldOf(names, client, name)?.said, said, title);
    if (said === undefined)
      t.is(names.isParent(name, networks), rules.isParent(name, expected), `${title}: names below`);
  }
  for (const address of ADDRESSES) {
    const found = names.nameOf(ipv4(address), networks);
    t.is(found && names.fullName(found.name, found.network), rules.nameOf(address, expected), `name of ${address}`);
  }
}

for (let i = 0; i < 3; i++) {
  const seed = Date.now() + i;
  test(`names are as the rules say, and as before where nothing was touched (${i})`, (t) => {
    t.log("seed", seed);
    const random = seededRandom(seed);
    const cluster = new Cluster(random);
    const { names } = cluster;
    let found = 0;
    let untouched = 0;
    for (let step = 0; step < STEPS; step++) {
      const asked = NAMES.filter(() => random() < SHARE_OF_NAMES);
      const addresses = cluster.some(ADDRESSES, CLIENTS);
      const clients = cluster.some(GATEWAYS, CLIENTS).map((gateway, at) => ({ gateway, address: addresses[at]! }));
      const questions = clients.flatMap((client) => asked.map((name) => ({ client, name })));
      const before = questions.map(({ client, name }) => toldOf(names, client, name));
      const touched = cluster.step();
      for (const [at, { client, name }] of questions.entries()) {
        const was = before[at];
        if (was === undefined || touched === "all" || touched.some((key) => was.keys.includes(key))) continue;
        untouched++;
        t.deepEqual(toldOf(names, client, name)?.said, was.said, `${client.address} asks for ${name}: ${touched}`);
      }
      found += before.filter((was) => was !== undefined).length;
      if (step % 4 === 0) for (const client of clients) checkRules(t, cluster, client, asked);
    }
    t.true(found > 500 && untouched > 50, `${found} found, ${untouched} untouched`);
  });
}
