// The law of the express lane in the kernel: under traffic that never pauses, while endpoints, services, peers and networks change by chance,
// no packet that was sent after a change was in force arrives where the tables refuse it, and what they allow arrives. Two nodes with
// workers, maps, programs and links as agents have them; containers on both nodes have the same addresses, and the tables say which
// of the two is an endpoint.
import { fileURLToPath } from "node:url";
import test, { type ExecutionContext } from "ava";
import type { TableRow } from "../../src/datapath/rows.ts";
import { cidr } from "../../src/lib/ip.ts";
import type { Random } from "../../src/lib/random.ts";
import { whatBpfLacks } from "../../src/linux/bpf-probe.ts";
import { type Cluster, rowsFor } from "../fakes/nodes.ts";
import { seededRandom } from "../fakes/seeded-random.ts";
import { DEADLINE_MS, tryRun } from "./command.ts";
import { Driver, Kernel } from "./kernel.ts";
import { systemTest } from "./system-test.ts";

const SEED = Number(process.env.OVERLAYD_TEST_SEED ?? Date.now() % 1_000_000);
const ROUNDS = Number(process.env.OVERLAYD_TEST_ROUNDS ?? 60);
/** How often what has arrived is looked at in each round, at least: flows are to enter the lane meanwhile. */
const PASSES = 25;
const LACK = process.getuid?.() === 0 ? whatBpfLacks() : undefined;

const NODES = { "192.0.2.11": "10.192.0.2", "192.0.2.12": "10.192.0.3" } as const;
type Vtep = keyof typeof NODES;
const VTEPS = Object.keys(NODES) as Vtep[];
const WEB = 4096;
const SUBNET = "10.192.32.0/20";
const ENDPOINTS = ["10.192.32.10", "10.192.32.11", "10.192.32.12"];
const VIP = "10.192.32.2";
const POOL = "10.192.0.0/10";
const MTU = 1450;

/** What is in force: the cluster, and the nodes that know no peer. */
interface World {
  /** Where each endpoint is. */
  at: Record<string, Vtep>;
  /** undefined: there is no service. */
  tasks: string[] | undefined;
  hasNetwork: boolean;
  lonely: Vtep[];
}

const WHOLE: World = {
  at: { [ENDPOINTS[0]!]: VTEPS[0]!, [ENDPOINTS[1]!]: VTEPS[1]!, [ENDPOINTS[2]!]: VTEPS[0]! },
  tasks: [ENDPOINTS[1]!, ENDPOINTS[2]!],
  hasNetwork: true,
  lonely: [],
};

const pick = <T>(random: Random, from: readonly T[]): T => from[Math.floor(random() * from.length)]!;
const without = <T>(list: readonly T[], gone: T): T[] => list.filter((one) => one !== gone);

const CHANGES: ((world: World, random: Random) => World)[] = [
  () => WHOLE,
  (world, random) => ({ ...world, at: { ...world.at, [pick(random, ENDPOINTS)]: pick(random, VTEPS) } }),
  (world, random) => ({ ...world, at: { ...world.at, [pick(random, ENDPOINTS)]: pick(random, VTEPS) } }),
  ({ at, ...world }, random) => {
    const gone = pick(random, ENDPOINTS);
    return { ...world, at: Object.fromEntries(Object.entries(at).filter(([address]) => address !== gone)) };
  },
  (world, random) => ({ ...world, tasks: ENDPOINTS.filter(() => random() < 0.5) }),
  (world, random) => ({ ...world, tasks: without(world.tasks ?? ENDPOINTS, pick(random, ENDPOINTS)) }),
  ({ tasks, ...world }) => ({ ...world, tasks: tasks === undefined ? ENDPOINTS : undefined }),
  (world, random) => ({ ...world, lonely: world.lonely.length > 0 ? [] : [pick(random, VTEPS)] }),
  (world) => ({ ...world, hasNetwork: !world.hasNetwork }),
];

/** The rows of a node's tables. With a network go its endpoints and services. */
function rowsIn({ at, tasks, hasNetwork, lonely }: World, vtep: Vtep): TableRow[] {
  const endpoints = Object.entries(at).map(([address, where]) => [address, { vtep: where, vni: WEB }] as const);
  const cluster: Cluster = {
    nodes: NODES,
    networks: hasNetwork ? { [WEB]: { subnet: SUBNET } } : {},
    endpoints: hasNetwork ? Object.fromEntries(endpoints) : {},
    vips: hasNetwork && tasks !== undefined ? { [VIP]: { vni: WEB, tasks } } : {},
  };
  const rows = rowsFor(cluster, vtep);
  return lonely.includes(vtep) ? rows.filter(({ kind }) => kind !== "peer") : rows;
}

interface Place {
  address: string;
  node: Vtep;
}
const PLACES: Place[] = VTEPS.flatMap((node) => ENDPOINTS.map((address) => ({ address, node })));
const nameOf = ({ address, node }: Place): string => `${address}@${node}`;
const PLACE_BY_NAME = new Map(PLACES.map((place) => [nameOf(place), place]));

/** Whether the client may ask the target and reach this server, and have its answer. */
function allows({ at, tasks, hasNetwork, lonely }: World, client: Place, target: string, server: Place): boolean {
  const isThere = ({ address, node }: Place): boolean => at[address] === node;
  if (!hasNetwork || !isThere(client) || !isThere(server)) return false; // a task may be its own server, by the VIP
  if (client.node !== server.node && lonely.length > 0) return false;
  return target === VIP ? tasks?.includes(server.address) === true : target === server.address;
}

/** The stamp, what it is, who sent it, the target that the client asked, where it arrived. */
type Arrival = [stamp: number, kind: "question" | "answer", from: string, target: string, at: string];

function isAllowed(world: World, [, kind, from, target, at]: Arrival): boolean {
  const [client, server] = kind === "question" ? [from, at] : [at, from];
  return allows(world, PLACE_BY_NAME.get(client)!, target, PLACE_BY_NAME.get(server)!);
}

/** The questions that must arrive, each "CLIENT TARGET". */
function wanted(world: World): Set<string> {
  const pairs = PLACES.flatMap((client) =>
    [...ENDPOINTS, VIP]
      .filter(
        (target) => PLACES.some((server) => allows(world, client, target, server)) && isSure(world, client, target),
      )
      .map((target) => `${nameOf(client)} ${target}`),
  );
  return new Set(pairs);
}

/** A VIP may choose a task that the client cannot reach: its own address, one that is gone or behind a node that it does not know. */
function isSure(world: World, client: Place, target: string): boolean {
  if (target !== VIP) return target !== client.address; // a client does not ask itself
  return (world.tasks ?? []).every((task) =>
    PLACES.some((server) => server.address === task && allows(world, client, VIP, server)),
  );
}

interface Rig {
  traffic: Driver;
  nodes: Driver[];
}

async function build(t: ExecutionContext): Promise<Rig> {
  const names = PLACES.map((_, i) => `c${i}`);
  const kernel = await Kernel.create(t, "n0", "n1", ...names);
  await kernel.sh("n0", `ip link add u0 type veth peer name u0 netns ${kernel.netns("n1")}`);
  for (const [i, vtep] of VTEPS.entries()) {
    await kernel.sh(`n${i}`, `ip address add ${vtep}/24 dev u0`);
    await kernel.sh(`n${i}`, "ip link set u0 up");
  }
  const nodes: Driver[] = [];
  for (const [i, vtep] of VTEPS.entries()) {
    const driver = kernel.driver(`n${i}`, "data-path-driver");
    const flowFile = `/dev/shm/${kernel.netns(`n${i}`)}`;
    t.teardown(() => tryRun(["rm", "-f", flowFile]));
    const endpoints = PLACES.flatMap(({ address, node }, at) =>
      node === vtep
        ? [{ address, subnet: cidr(SUBNET), netns: kernel.netns(names[at]!), ifname: "eth0", mtu: 1450 }]
        : [],
    );
    const desired = {
      ...{ device: "overlay0", mtu: MTU, pool: cidr(POOL), ingressAddress: NODES[vtep], endpoints, held: [] },
      gateways: ["10.192.32.1"],
    };
    await driver.call("start", { address: vtep, underlay: "u0", desired, flowFile });
    nodes.push(driver);
  }
  const traffic = new Driver([
    "python3",
    fileURLToPath(new URL("../../../test/system/programs/stamped-traffic.py", import.meta.url)),
  ]);
  t.teardown(() => traffic.kill());
  await traffic.call("begin", {
    places: Object.fromEntries(
      PLACES.map((place, i) => [nameOf(place), [`/run/netns/${kernel.netns(names[i]!)}`, place.address]]),
    ),
    targets: [...ENDPOINTS, VIP],
  });
  return { traffic, nodes };
}

/** Makes the changes of this seed one after the other; returns the first that was not kept to, or undefined. */
async function violation({ traffic, nodes }: Rig, seed: number, rounds: number): Promise<string | undefined> {
  const random = seededRandom(seed);
  const worlds = [WHOLE]; // BOUNDED: by the rounds; each stamp's
  for (let round = 0; round < rounds; round++) {
    if (round > 0) worlds.push(pick(random, CHANGES)(worlds.at(-1)!, random));
    const world = worlds[round]!;
    await Promise.all(nodes.map((node, i) => node.call("apply", rowsIn(world, VTEPS[i]!))));
    await traffic.call("stamp", round);
    const missing = { question: wanted(world), answer: wanted(world) };
    const end = performance.now() + DEADLINE_MS;
    for (let passes = 0; passes < PASSES || missing.question.size + missing.answer.size > 0; passes++) {
      for (const arrival of (await traffic.call("take")) as Arrival[]) {
        const [stamp, kind, from, target, at] = arrival;
        if (!worlds.slice(stamp).some((one) => isAllowed(one, arrival)))
          return `round ${round}: ${JSON.stringify(arrival)} arrived, in force was ${JSON.stringify(worlds.slice(stamp))}`;
        if (stamp === round) missing[kind].delete(`${kind === "question" ? from : at} ${target}`);
      }
      if (performance.now() > end)
        return `round ${round}: ${JSON.stringify({ question: [...missing.question], answer: [...missing.answer] })} did not arrive`;
    }
  }
  return undefined;
}

const lawTest =
  LACK === undefined ? systemTest : (title: string) => test.serial.skip(`${title} (skipped: ${LACK})`, () => {});

lawTest(
  "under traffic and changes by chance, what the tables in force refuse arrives nowhere, and what they allow does",
  async (t) => {
    t.log(`seed ${SEED}`);
    const rig = await build(t);
    t.is(await violation(rig, SEED, ROUNDS), undefined);
    const carried = await Promise.all(rig.nodes.map((node) => node.call("carried") as Promise<number>));
    t.log(`${carried.join(" and ")} packets went in the lanes`);
    for (const packets of carried) t.true(packets > 10 * ROUNDS);
  },
);
