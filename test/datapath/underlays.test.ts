// One suite that every underlay passes: Linux's batched one, the one on node:dgram, and the one in a process.
import { setImmediate } from "node:timers/promises";
import test, { type ExecutionContext } from "ava";
import { UnderlayBatch, UnderlayQueue } from "../../src/datapath/batch.ts";
import { openDgramUnderlay } from "../../src/datapath/dgram-underlay.ts";
import { SOURCE_PORTS, type Underlay } from "../../src/datapath/ports.ts";
import { type Ipv4, ipv4 } from "../../src/lib/ip.ts";
import { openUdpUnderlay } from "../../src/linux/udp-underlay.ts";
import { PacketMemory } from "../../src/packet/memory.ts";
import { InProcessNetwork } from "../fakes/in-process.ts";
import { DEADLINE_MS } from "../system/command.ts";

const ALICE = ipv4("127.0.0.1");
const BOB = ipv4("127.0.0.2");

type PortedUnderlay = Underlay & { readonly port: number };

interface Kind {
  readonly name: string;
  readonly carriesTos: boolean;
  /** Opens a pair that reach each other. */
  open(memory: PacketMemory): Promise<[alice: PortedUnderlay, bob: PortedUnderlay]>;
}

function inProcess(name: string, join: boolean): Kind {
  return {
    name,
    carriesTos: true,
    async open(memory) {
      const network = new InProcessNetwork({ mtu: 65536 });
      const attach = (address: Ipv4) => network.attach(memory, { address, port: 4789, join });
      return [attach(ALICE), attach(BOB)];
    },
  };
}

const kinds: readonly Kind[] = [
  {
    name: "the Linux underlay",
    carriesTos: true,
    async open(memory) {
      const open = (address: Ipv4) => openUdpUnderlay(memory, { address, port: 0 });
      return [open(ALICE), open(BOB)];
    },
  },
  {
    name: "the dgram underlay",
    carriesTos: false,
    async open(memory) {
      const open = (address: Ipv4) => openDgramUnderlay(memory, { address, port: 0 });
      return [await open(ALICE), await open(BOB)];
    },
  },
  inProcess("the in-process underlay", false),
  inProcess("the in-process underlay that joins datagrams", true),
];

interface Received {
  readonly payload: Buffer;
  readonly source: Ipv4;
  readonly tos: number;
}

/** Two underlays of a kind, Alice's queue, and what Bob receives. */
class Pair {
  readonly queue = new UnderlayQueue(300, 600);
  readonly alice: PortedUnderlay;
  readonly bob: PortedUnderlay;
  readonly #memory: PacketMemory;
  readonly #batch: UnderlayBatch;

  constructor(memory: PacketMemory, alice: PortedUnderlay, bob: PortedUnderlay) {
    this.#memory = memory;
    this.#batch = new UnderlayBatch(memory, 8);
    this.alice = alice;
    this.bob = bob;
  }

  slice(bytes: Uint8Array): void {
    const at = this.#memory.alloc(bytes.length + 1);
    this.#memory.u8.set(bytes, at);
    this.queue.slice(at, bytes.length);
  }

  /** Queues a message, to Bob if nothing else is said: the slices since the last, and `bytes`. */
  message(
    bytes: Uint8Array,
    { address = BOB, port = this.bob.port, sourcePort = 0, segmentBytes = 0, tos = 0 } = {},
  ): void {
    this.slice(bytes);
    this.queue.finish(address, port, sourcePort, segmentBytes, tos);
  }

  /** What Bob receives, cut into datagrams, until there are `count`. */
  async receive(count: number): Promise<Received[]> {
    const received: Received[] = [];
    const deadline = performance.now() + DEADLINE_MS;
    while (received.length < count) {
      if (this.bob.receive(this.#batch) > 0) this.#cut(received);
      else await setImmediate();
      if (performance.now() > deadline) throw new Error(`only ${received.length} of ${count} datagrams arrived`);
    }
    return received;
  }

  /** One receive() of Bob's. */
  receiveOnce(): number {
    return this.bob.receive(this.#batch);
  }

  get capacity(): number {
    return this.#batch.capacity;
  }

  #cut(received: Received[]): void {
    const { count, offset, length, segmentBytes, source, tos } = this.#batch;
    for (let i = 0; i < count; i++) {
      let at = 0;
      do {
        const end = Math.min(at + segmentBytes[i]!, length[i]!);
        const payload = Buffer.from(this.#memory.u8.slice(offset[i]! + at, offset[i]! + end));
        received.push({ payload, source: source[i]!, tos: tos[i]! });
        at = end;
      } while (at < length[i]!);
    }
  }
}

for (const kind of kinds) {
  const conforms = (title: string, check: (t: ExecutionContext, pair: Pair) => Promise<void>) =>
    test(`${kind.name}: ${title}`, async (t) => {
      const memory = new PacketMemory(8 << 20);
      const [alice, bob] = await kind.open(memory);
      try {
        await check(t, new Pair(memory, alice, bob));
      } finally {
        alice.close();
        bob.close();
      }
    });

  conforms("a datagram arrives with its bytes and its sender", async (t, pair) => {
    pair.message(Buffer.from("hello"));
    t.is(pair.alice.send(pair.queue), 0);
    t.is(pair.queue.messages, 0);
    const [datagram] = await pair.receive(1);
    t.is(datagram!.payload.toString(), "hello");
    t.is(datagram!.source, ALICE);
    t.is(pair.receiveOnce(), 0);
  });

  conforms("the slices of a message arrive as one datagram", async (t, pair) => {
    for (const part of ["one ", "two ", "three"]) pair.slice(Buffer.from(part));
    pair.queue.finish(BOB, pair.bob.port, 0, 0, 0);
    pair.message(Buffer.from("four"));
    pair.alice.send(pair.queue);
    const received = await pair.receive(2);
    t.deepEqual(
      received.map(({ payload }) => payload.toString()),
      ["one two three", "four"],
    );
  });

  conforms("datagrams of no bytes and of the most that UDP takes arrive", async (t, pair) => {
    const largest = Buffer.alloc(65507, "x");
    pair.message(Buffer.alloc(0));
    pair.message(largest);
    pair.alice.send(pair.queue);
    const received = await pair.receive(2);
    t.is(received[0]!.payload.length, 0);
    t.true(received[1]!.payload.equals(largest));
  });

  conforms("messages of one source port keep their order among those of others", async (t, pair) => {
    const sent = 240;
    for (let i = 0; i < sent; i++) pair.message(Uint8Array.of(i % SOURCE_PORTS, i), { sourcePort: i % SOURCE_PORTS });
    t.is(pair.alice.send(pair.queue), 0);
    const received = await pair.receive(sent);
    for (let source = 0; source < SOURCE_PORTS; source++) {
      const own = received.filter(({ payload }) => payload[0] === source).map(({ payload }) => payload[1]);
      t.deepEqual(
        own,
        Array.from({ length: sent / SOURCE_PORTS }, (_, i) => i * SOURCE_PORTS + source),
      );
    }
  });

  conforms("receive takes no more than the batch holds, and loses nothing", async (t, pair) => {
    const sent = pair.capacity * 3 + 1;
    // Each shorter than the one before would be joined once, each longer never.
    for (let i = 0; i < sent; i++) pair.message(Buffer.alloc(i + 1, i));
    pair.alice.send(pair.queue);
    const received = await pair.receive(sent);
    t.deepEqual(
      received.map(({ payload }) => payload.length),
      Array.from({ length: sent }, (_, i) => i + 1),
    );
  });

  conforms("a message is cut into the datagrams that it offered to cut", async (t, pair) => {
    const { maxSegments } = pair.alice.offloads;
    const payload = Buffer.from(Array.from({ length: (maxSegments - 1) * 100 + 60 }, (_, i) => i));
    pair.message(payload, { segmentBytes: 100 });
    t.is(pair.alice.send(pair.queue), 0);
    const received = await pair.receive(maxSegments);
    t.deepEqual(
      received.map(({ payload }) => payload.length),
      [...Array<number>(maxSegments - 1).fill(100), 60],
    );
    t.true(Buffer.concat(received.map(({ payload }) => payload)).equals(payload));
  });

  conforms("datagrams that could be sent as one arrive as they were", async (t, pair) => {
    const sizes = [100, 100, 60, 100, 100, 120, 120, 0, 0, 120, 7];
    sizes.forEach((bytes, i) => {
      pair.message(Buffer.alloc(bytes, i));
    });
    pair.slice(Buffer.alloc(3, 0xaa));
    pair.message(Buffer.alloc(4, 0xbb)); // two slices
    const cut = pair.alice.offloads.maxSegments > 1;
    if (cut) pair.message(Buffer.alloc(14, 0xcc), { segmentBytes: 7 });
    pair.message(Buffer.alloc(7, 0xdd));
    t.is(pair.alice.send(pair.queue), 0);
    const received = await pair.receive(sizes.length + (cut ? 4 : 2));
    t.deepEqual(
      received.map(({ payload }) => payload.toString("hex")),
      [
        ...sizes.map((bytes, i) => Buffer.alloc(bytes, i).toString("hex")),
        "aaaaaabbbbbbbb",
        ...(cut ? ["cccccccccccccc", "cccccccccccccc"] : []),
        "dddddddddddddd",
      ],
    );
  });

  conforms("datagrams of several ways are not mixed", async (t, pair) => {
    const bytesFor = (i: number) => Buffer.alloc(50, i);
    for (let i = 0; i < 30; i++) {
      pair.message(bytesFor(i), { tos: i % 3, ...(i % 5 === 0 ? { port: pair.alice.port, address: ALICE } : {}) });
    }
    t.is(pair.alice.send(pair.queue), 0);
    const received = await pair.receive(24);
    t.deepEqual(
      received.map(({ payload }) => payload[0]),
      Array.from({ length: 30 }, (_, i) => i).filter((i) => i % 5 !== 0),
    );
    if (kind.carriesTos) t.true(received.every(({ payload, tos }) => tos === payload[0]! % 3));
  });

  conforms("more datagrams than one message can be cut into arrive in order", async (t, pair) => {
    const sent = 2 * Math.min(pair.alice.offloads.maxSegments, 100) + 3;
    for (let i = 0; i < sent; i++) pair.message(Buffer.alloc(20, i));
    t.is(pair.alice.send(pair.queue), 0);
    const received = await pair.receive(sent);
    t.deepEqual(
      received.map(({ payload }) => payload[0]),
      Array.from({ length: sent }, (_, i) => i & 0xff),
    );
  });

  conforms("what nobody listens for harms no later datagram", async (t, pair) => {
    const silent = pair.bob.port === 65535 ? 1024 : pair.bob.port + 1;
    for (let i = 0; i < 3; i++) {
      pair.message(Buffer.from("lost"), { port: silent });
      pair.message(Buffer.from("found"));
      t.is(pair.alice.send(pair.queue), 0);
    }
    const received = await pair.receive(3);
    t.true(received.every(({ payload }) => payload.toString() === "found"));
  });

  if (kind.carriesTos) {
    conforms("the TOS byte goes along, also beside segmentation", async (t, pair) => {
      pair.message(Buffer.from("marked"), { tos: 0xba });
      pair.message(Buffer.alloc(250), { tos: 0x03, segmentBytes: 100 });
      pair.message(Buffer.from("plain"));
      pair.alice.send(pair.queue);
      const received = await pair.receive(5);
      t.deepEqual(
        received.map(({ tos }) => tos),
        [0xba, 3, 3, 3, 0],
      );
    });
  }
}
