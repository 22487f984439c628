// Two data paths on a fake wire: what a packet looks like where it comes out, and what stops it.
import test from "ava";
import { Gso } from "../../src/packet/virtio-net.ts";
import { ACK, describe, type Fields, fragmentsOf, ipPacket, RST, SYN } from "../fakes/ip-packets.ts";
import { fakeNodes, rowsFor } from "../fakes/nodes.ts";
import { A, B, brief, CLUSTER, cluster, exchange, send } from "../fakes/two-nodes.ts";

interface Row {
  name: string;
  from: 0 | 1;
  packet: Fields;
  /** Where it comes out, and how it looks there. */
  at?: 0 | 1;
  as?: string;
  drop?: string;
  /** What the sender is told of a drop: ICMP's TYPE/CODE, or "reset". */
  told?: string;
}

const ROWS: Row[] = [
  {
    name: "an endpoint reaches one of its network on another node",
    from: 0,
    packet: { source: "10.192.32.10", destination: "10.192.32.20" },
    at: 1,
    as: "10.192.32.10:40000 > 10.192.32.20:80",
  },
  {
    name: "an endpoint reaches one of its network on its own node",
    from: 0,
    packet: { source: "10.192.32.10", destination: "10.192.32.11" },
    at: 0,
    as: "10.192.32.10:40000 > 10.192.32.11:80",
  },
  {
    name: "UDP is carried",
    from: 0,
    packet: { source: "10.192.32.10", destination: "10.192.32.20", protocol: "udp", payload: new Uint8Array(11) },
    at: 1,
    as: "10.192.32.10:40000 > 10.192.32.20:80",
  },
  {
    name: "an echo request is carried",
    from: 0,
    packet: { source: "10.192.32.10", destination: "10.192.32.20", protocol: "icmp", sourcePort: 77 },
    at: 1,
    as: "10.192.32.10:77 > 10.192.32.20:0",
  },
  {
    name: "an endpoint reaches its gateway, which is its own node",
    from: 0,
    packet: { source: "10.192.32.10", destination: "10.192.32.1", protocol: "udp", destinationPort: 53 },
    at: 0,
    as: "10.192.32.10:40000 > 10.192.32.1:53",
  },
  {
    name: "an endpoint reaches the outside through its node",
    from: 0,
    packet: { source: "10.192.32.10", destination: "198.51.100.7" },
    at: 0,
    as: "10.192.32.10:40000 > 198.51.100.7:80",
  },
  {
    name: "an endpoint of an internal network does not reach the outside",
    from: 0,
    packet: { source: "10.192.48.10", destination: "198.51.100.7" },
    drop: "not-allowed",
    told: "3/13",
  },
  {
    name: "an endpoint of an internal network reaches its gateway",
    from: 0,
    packet: { source: "10.192.48.10", destination: "10.192.48.1", protocol: "udp", destinationPort: 53 },
    at: 0,
    as: "10.192.48.10:40000 > 10.192.48.1:53",
  },
  {
    name: "an endpoint does not reach one of another network",
    from: 0,
    packet: { source: "10.192.32.10", destination: "10.192.48.20" },
    drop: "not-allowed",
    told: "3/13",
  },
  {
    name: "an endpoint does not reach a VIP of another network",
    from: 0,
    packet: { source: "10.192.48.10", destination: "10.192.32.2" },
    drop: "not-allowed",
    told: "3/13",
  },
  {
    name: "an endpoint does not reach another network's gateway",
    from: 0,
    packet: { source: "10.192.48.10", destination: "10.192.32.1" },
    drop: "no-route",
    told: "3/1",
  },
  {
    name: "an address that nobody has is no route",
    from: 0,
    packet: { source: "10.192.32.10", destination: "10.192.32.99" },
    drop: "no-route",
    told: "3/1",
  },
  {
    name: "a source that is another node's endpoint is a forgery",
    from: 0,
    packet: { source: "10.192.32.20", destination: "10.192.32.10" },
    drop: "spoofed-source",
  },
  {
    name: "a source of the pool that nobody has is a forgery",
    from: 0,
    packet: { source: "10.192.32.99", destination: "10.192.32.10" },
    drop: "spoofed-source",
  },
  ...(
    [
      ["bad-destination", ["127.0.0.1", "0.0.0.1", "240.0.0.1", "10.192.32.0"]],
      ["multicast", ["224.0.0.251", "239.255.255.250", "255.255.255.255", "10.192.47.255"]],
    ] as const
  ).flatMap(([drop, destinations]) =>
    destinations.map(
      (destination): Row => ({
        name: `an endpoint's packet to ${destination} is dropped as ${drop}`,
        from: 0,
        packet: { source: "10.192.32.10", destination, protocol: "udp" },
        drop,
      }),
    ),
  ),
  {
    name: "a VIP without tasks is no task",
    from: 0,
    packet: { source: "10.192.32.10", destination: "10.192.32.3" },
    drop: "no-task",
    told: "reset",
  },
  {
    name: "a port that a service without tasks publishes is closed",
    from: 0,
    packet: { source: "198.51.100.7", destination: "10.192.0.102", destinationPort: 9202 },
    drop: "no-task",
    told: "reset",
  },
  {
    name: "and so is it to containers, on another node's address",
    from: 0,
    packet: { source: "10.192.32.10", destination: "192.0.2.12", destinationPort: 9202 },
    drop: "no-task",
    told: "reset",
  },
  {
    name: "a client from outside reaches a task on another node through the mesh, its address kept",
    from: 0,
    packet: { source: "198.51.100.7", destination: "10.192.0.100", destinationPort: 9200 },
    at: 1,
    as: "198.51.100.7:40000 > 10.192.32.20:80",
  },
  {
    name: "a client from outside reaches a task on the node it came to",
    from: 0,
    packet: { source: "198.51.100.7", destination: "10.192.0.101", destinationPort: 9201 },
    at: 0,
    as: "198.51.100.7:40000 > 10.192.32.10:80",
  },
  {
    name: "a port that a mesh VIP does not publish is no service",
    from: 0,
    packet: { source: "198.51.100.7", destination: "10.192.0.100", destinationPort: 9999 },
    drop: "no-service",
    told: "reset",
  },
  {
    name: "a client from outside does not reach an endpoint's own address",
    from: 0,
    packet: { source: "198.51.100.7", destination: "10.192.32.10" },
    drop: "no-flow",
  },
  {
    name: "a client from outside does not reach a network's VIP",
    from: 0,
    packet: { source: "198.51.100.7", destination: "10.192.32.2" },
    drop: "not-allowed",
    told: "3/13",
  },
  {
    name: "a container reaches a published port on its gateway",
    from: 0,
    packet: { source: "10.192.32.10", destination: "10.192.32.1", destinationPort: 9200 },
    at: 1,
    as: "10.192.32.10:40000 > 10.192.32.20:80",
  },
  {
    name: "a container reaches a published port on another node's address",
    from: 0,
    packet: { source: "10.192.32.11", destination: B, destinationPort: 9201 },
    at: 0,
    as: "10.192.32.11:40000 > 10.192.32.10:80",
  },
  {
    name: "the host reaches a local endpoint",
    from: 0,
    packet: { source: "10.192.0.2", destination: "10.192.32.10" },
    at: 0,
    as: "10.192.0.2:40000 > 10.192.32.10:80",
  },
  {
    name: "the host reaches a published port of an endpoint on another node",
    from: 0,
    packet: { source: "10.192.0.2", destination: "10.192.32.20" },
    at: 1,
    as: "10.192.0.2:40000 > 10.192.32.20:80",
  },
  {
    name: "the host pings another node's ingress address",
    from: 0,
    packet: { source: "10.192.0.2", destination: "10.192.0.3", protocol: "icmp" },
    at: 1,
    as: "10.192.0.2:1 > 10.192.0.3:0",
  },
  {
    name: "a gateway is never a source toward another node",
    from: 0,
    packet: { source: "10.192.32.1", destination: "10.192.32.20" },
    drop: "not-allowed",
    told: "3/13",
  },
];

for (const { name, from, packet, at, as, drop, told } of ROWS) {
  test(name, async (t) => {
    const fake = await cluster();
    const { out, drops } = send(fake, from, packet);
    if (at === undefined) {
      t.deepEqual(
        out[from]!.map((answer) => (answer.protocol === 6 && (answer.flags & RST) !== 0 ? "reset" : answer.icmp)),
        told === undefined ? [] : [told],
      );
      for (const { destination } of out[from]!) t.is(destination, packet.source);
      t.deepEqual(out[1 - from], []);
      t.deepEqual(drops[from], { [drop!]: 1 });
      return;
    }
    t.deepEqual(drops, [{}, {}]);
    t.deepEqual(
      out.map((packets) => packets.map(brief)),
      at === 0 ? [[as!], []] : [[], [as!]],
    );
    const arrived = out[at]![0]!;
    t.true(arrived.headerChecksumIsRight);
    t.regex(arrived.transportChecksum, /right|partial/);
    t.is(arrived.ttl, 64, "the kernel decrements the TTL, not the agent");

    // And the way back: what the server answers comes to the client as if from where it asked.
    const answer = send(fake, at, {
      protocol: packet.protocol,
      source: arrived.destination,
      destination: arrived.source,
      sourcePort: packet.protocol === "icmp" ? arrived.sourcePort : arrived.destinationPort,
      destinationPort: arrived.sourcePort,
      flags: SYN | ACK,
      type: 0,
    });
    t.deepEqual(answer.drops, [{}, {}]);
    const back = answer.out[from]!;
    t.is(back.length, 1);
    t.is(back[0]!.source, packet.destination);
    t.is(back[0]!.destination, packet.source);
    t.true(back[0]!.headerChecksumIsRight);
    t.regex(back[0]!.transportChecksum, /right|partial/);
  });
}

test("a VIP is balanced in turn, and a flow stays with its task", async (t) => {
  const fake = await cluster();
  const tasks: string[] = [];
  for (let port = 1; port <= 4; port++) {
    const { out } = send(fake, 0, { source: "10.192.32.11", destination: "10.192.32.2", sourcePort: port });
    const [packet] = out.flat();
    tasks.push(packet!.destination);
    const again = send(fake, 0, { source: "10.192.32.11", destination: "10.192.32.2", sourcePort: port, flags: ACK });
    t.is(again.out.flat()[0]!.destination, packet!.destination);
  }
  t.deepEqual(tasks, ["10.192.32.10", "10.192.32.20", "10.192.32.10", "10.192.32.20"]);
});

test("a task that reaches itself through its VIP sees the VIP as its client", async (t) => {
  const fake = await cluster();
  const { out } = send(fake, 0, { source: "10.192.32.10", destination: "10.192.32.2", sourcePort: 5000 });
  t.deepEqual(out[0]!.map(brief), ["10.192.32.2:5000 > 10.192.32.10:80"]);
  const back = send(fake, 0, {
    source: "10.192.32.10",
    destination: "10.192.32.2",
    sourcePort: 80,
    destinationPort: 5000,
    flags: SYN | ACK,
  });
  t.deepEqual(back.out[0]!.map(brief), ["10.192.32.2:80 > 10.192.32.10:5000"]);
});

test("two flows that would look alike to the task get different source ports", async (t) => {
  const fake = await cluster();
  const client = { source: "10.192.32.11", sourcePort: 5000 };
  send(fake, 0, { ...client, destination: "10.192.32.10" });
  const { out } = send(fake, 0, { ...client, destination: "10.192.32.2" });
  const seen = out[0]![0]!;
  t.is(seen.destination, "10.192.32.10");
  t.not(seen.sourcePort, 5000);
  const back = send(fake, 0, {
    source: "10.192.32.10",
    destination: "10.192.32.11",
    sourcePort: 80,
    destinationPort: seen.sourcePort,
    flags: SYN | ACK,
  });
  t.deepEqual(back.out[0]!.map(brief), ["10.192.32.2:80 > 10.192.32.11:5000"]);
});

test("a super-packet crosses the wire in segments and is joined again", async (t) => {
  const fake = fakeNodes(2, { join: true });
  for (const node of fake.nodes) node.apply(rowsFor(CLUSTER, node.vtep));
  const payload = Uint8Array.from({ length: 60_000 }, (_, i) => i * 31);
  const packet = ipPacket({
    source: "10.192.32.10",
    destination: "10.192.32.20",
    flags: ACK,
    acknowledgment: 1,
    payload,
    partial: true,
  });
  fake.nodes[0]!.device.inject(packet, { gso: Gso.Tcp4, gsoBytes: 1398 });
  fake.settle();
  const written = fake.nodes[1]!.written();
  t.deepEqual(
    written.map(({ gso, gsoBytes }) => [gso, gsoBytes]),
    [[Gso.Tcp4, 1398]],
  );
  const arrived = describe(written[0]!.bytes);
  t.deepEqual(arrived.payload, payload);
  t.is(arrived.transportChecksum, "partial");
});

test("peers answer each other's probes, and a silent one is down within a second", async (t) => {
  const fake = fakeNodes(2);
  for (const node of fake.nodes) node.apply(rowsFor(CLUSTER, node.vtep));
  await fake.advance(1500);
  t.is(fake.nodes[0]!.engine.report().probes[0]!.state, "up");
  fake.wire.filter = () => [];
  await fake.advance(1000);
  t.is(fake.nodes[0]!.engine.report().probes[0]!.state, "down");
  // New flows go to the tasks that are left.
  for (let port = 1; port <= 3; port++) {
    const { out } = send(fake, 0, { source: "10.192.32.11", destination: "10.192.32.2", sourcePort: port });
    t.deepEqual(
      out[0]!.map(({ destination }) => destination),
      ["10.192.32.10"],
    );
  }
  fake.wire.filter = undefined;
  await fake.advance(2000);
  t.is(fake.nodes[0]!.engine.report().probes[0]!.state, "up");
});

test("a container cannot make VXLAN of its own: it would leave with its node's address, and be believed", async (t) => {
  const fake = await cluster();
  const forged: Fields = { source: "10.192.32.10", destination: B, protocol: "udp", destinationPort: 4789 };
  t.deepEqual(send(fake, 0, forged).drops[0], { "not-allowed": 1 });
  const packet = ipPacket({ ...forged, payload: new Uint8Array(3000) });
  const { out, drops } = exchange(fake, () => {
    for (const fragment of fragmentsOf(packet, 1450)) fake.nodes[0]!.device.inject(fragment);
  });
  t.deepEqual(drops[0], { "not-allowed": 1, "fragment-without-first": 2 });
  t.deepEqual(
    out[0]!.map(({ protocol }) => protocol),
    [1],
    "only the answer to the first",
  );
  t.is(send(fake, 0, { ...forged, destinationPort: 4790 }).out[0]!.length, 1, "another port is the host's matter");
});

test("a container reaches no manager's sessions, on no address of a node", async (t) => {
  const fake = await cluster();
  for (const destination of [A, B, "10.192.32.1"]) {
    const session: Fields = { source: "10.192.32.10", destination, destinationPort: 2377 };
    t.deepEqual(send(fake, 0, session).drops[0], { "not-allowed": 1 }, destination);
    t.deepEqual(send(fake, 0, { ...session, protocol: "udp" }).drops[0], {}, "TCP only");
  }
});
