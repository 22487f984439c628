// No endpoint takes the room of others: places of the flow table and of the fragment table, and new flows a second.
import test from "ava";
import { ACK, fragmentsOf, ipPacket, SYN } from "../fakes/ip-packets.ts";
import type { FakeNodes } from "../fakes/nodes.ts";
import { cluster, exchange, send } from "../fakes/two-nodes.ts";

const GREEDY = "10.192.32.10";
const FRIEND = "10.192.32.20"; // on the other node, of the same attacker
const WELL_BEHAVED = "10.192.32.11";
const SERVER = "198.51.100.7";
const CAPACITY = 4096;
/** How many flows the table takes before any holder is limited. */
const UNLIMITED = (CAPACITY * 7) / 8;
/** What each of up to 16 containers always gets. */
const PART = CAPACITY / 8 / 16;

/** Opens connections, the ports counted on; answered and established when `isAnswered`. */
function open(
  fake: FakeNodes,
  source: string,
  destination: string,
  ports: readonly number[],
  isAnswered: boolean,
): void {
  for (const sourcePort of ports) {
    send(fake, 0, { source, destination, sourcePort, flags: SYN });
    if (!isAnswered) continue;
    const back = { source: destination, destination: source, sourcePort: 80, destinationPort: sourcePort };
    send(fake, destination === FRIEND ? 1 : 0, { ...back, flags: SYN | ACK, acknowledgment: 1001 });
    send(fake, 0, { source, destination, sourcePort, flags: ACK, sequence: 1001, acknowledgment: 1001 });
  }
}

const ports = (count: number, first = 2000): number[] => Array.from({ length: count }, (_, i) => first + i);

const heldBy = (fake: FakeNodes, source: string): string[] =>
  fake.nodes[0]!.flows()
    .filter(({ client }) => client.startsWith(`${source}:`))
    .map(({ state }) => state);

test("a container that opens and answers its own connections without end leaves room for all others", async (t) => {
  const fake = await cluster({ flowCapacity: CAPACITY });
  open(fake, WELL_BEHAVED, SERVER, ports(20), true);
  open(fake, GREEDY, FRIEND, ports(CAPACITY + 200), true);
  t.is(
    heldBy(fake, GREEDY).length + heldBy(fake, FRIEND).length + 20,
    UNLIMITED + PART,
    "while there is room it gets it",
  );
  t.true(fake.nodes[0]!.drops()["flow-share-taken"]! > 0);
  open(fake, WELL_BEHAVED, SERVER, ports(PART - 20, 9100), true);
  t.deepEqual(heldBy(fake, WELL_BEHAVED), Array(PART).fill("established"));
});

test("unanswered connections go for their own container's new ones, the oldest first, and are counted", async (t) => {
  const fake = await cluster({ flowCapacity: CAPACITY });
  open(fake, WELL_BEHAVED, SERVER, ports(5, 9000), false);
  open(fake, GREEDY, SERVER, ports(3, 1100), true);
  open(fake, GREEDY, SERVER, ports(2 * CAPACITY), false);
  t.is(heldBy(fake, WELL_BEHAVED).length, 5, "another's stay, unanswered as they are");
  t.is(heldBy(fake, GREEDY).filter((state) => state === "established").length, 3);
  t.true(fake.nodes[0]!.engine.report().evictedFlows > CAPACITY / 2);
  t.is(fake.nodes[0]!.drops()["flow-share-taken"], undefined, "it gets each new one for an old one");
});

test("connections that end go for their own container's new ones", async (t) => {
  const fake = await cluster({ flowCapacity: CAPACITY });
  open(fake, GREEDY, FRIEND, ports(CAPACITY), true);
  const [first] = heldBy(fake, GREEDY);
  t.is(first, "established");
  const reset = { source: GREEDY, destination: FRIEND, sourcePort: 2000, flags: 4, sequence: 1001 };
  send(fake, 0, reset);
  const before = heldBy(fake, GREEDY).length;
  t.deepEqual(send(fake, 0, { source: GREEDY, destination: FRIEND, sourcePort: 9000 }).drops[0], {});
  t.is(heldBy(fake, GREEDY).length, before);
  t.deepEqual(
    send(fake, 0, { source: GREEDY, destination: FRIEND, sourcePort: 9001 }).drops[0],
    {},
    "for the unanswered one",
  );
});

test("clients outside who fill a service's share keep neither others nor the service itself from the table", async (t) => {
  const fake = await cluster({ flowCapacity: CAPACITY });
  for (let i = 0; i < 2 * CAPACITY; i++) {
    const client = { source: `198.51.${i >> 8}.${i & 255}`, sourcePort: 4000, destination: "10.192.0.101" };
    send(fake, 0, { ...client, destinationPort: 9201 });
    send(fake, 0, {
      source: GREEDY,
      destination: client.source,
      sourcePort: 80,
      destinationPort: 4000,
      flags: SYN | ACK,
    });
    send(fake, 0, { ...client, destinationPort: 9201, flags: ACK, sequence: 1001, acknowledgment: 1 });
  }
  for (const source of [GREEDY, WELL_BEHAVED]) {
    t.deepEqual(send(fake, 0, { source, destination: SERVER, sourcePort: 9000 }).drops[0], {}, source);
  }
});

test("a container begins so many connections a second, and others are not held up", async (t) => {
  const fake = await cluster({ flowCapacity: 65_536, newFlowsPerSecond: 100 });
  const begin = (source: string, count: number) => {
    for (const sourcePort of ports(count)) send(fake, 0, { source, destination: SERVER, sourcePort });
    return fake.nodes[0]!.drops()["too-many-new-flows"] ?? 0;
  };
  t.is(begin(GREEDY, 250), 150);
  t.is(begin(WELL_BEHAVED, 100), 150);
  const going = send(fake, 0, { source: GREEDY, destination: SERVER, sourcePort: 2000, flags: ACK });
  t.deepEqual(going.drops[0], {}, "a connection that it has goes on");
  await fake.advance(1000);
  t.deepEqual(send(fake, 0, { source: GREEDY, destination: SERVER, sourcePort: 3000 }).drops[0], {});
});

const datagram = (source: string, destination: string, id: number): Uint8Array[] =>
  fragmentsOf(ipPacket({ source, destination, protocol: "udp", fragment: 0, id, payload: new Uint8Array(2000) }), 1400);

/** First fragments of a greedy container between the first and the later ones of another. */
async function aroundAFlood(flood: (id: number) => Uint8Array) {
  const fake = await cluster();
  const ids = Array.from({ length: 50 }, (_, i) => i + 1);
  return exchange(fake, () => {
    const inject = (packet: Uint8Array) => {
      fake.nodes[0]!.device.inject(packet);
      fake.settle();
    };
    for (const id of ids) inject(datagram(WELL_BEHAVED, SERVER, id)[0]!);
    for (let id = 1; id <= 20_000; id++) inject(flood(id));
    for (const id of ids) for (const later of datagram(WELL_BEHAVED, SERVER, id).slice(1)) inject(later);
  });
}

test("first fragments that go nowhere take no place", async (t) => {
  const { drops } = await aroundAFlood((id) => datagram(GREEDY, "10.192.32.99", id)[0]!);
  t.deepEqual(drops[0], { "no-route": 20_000 });
});

test("first fragments that pass take a quarter of the places at most", async (t) => {
  const { drops } = await aroundAFlood((id) => datagram(GREEDY, SERVER, id)[0]!);
  t.deepEqual(drops[0], {});
});

test("datagrams that lose their places are counted", async (t) => {
  const fake = await cluster();
  for (let id = 1; id <= 5000; id++) {
    fake.nodes[0]!.device.inject(datagram(GREEDY, SERVER, id)[0]!);
    fake.settle();
  }
  t.true(fake.nodes[0]!.engine.report().displacedFragments > 3000);
});
