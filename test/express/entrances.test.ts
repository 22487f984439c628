// What the program at the node's links leads to the agent, and what it leaves to the stack.
import { createSocket } from "node:dgram";
import { once } from "node:events";
import type { ExecutionContext } from "ava";
import { type EntranceRow, Entrances } from "../../src/express/entrances.ts";
import { ENTRANCES_SHAPE, Entrance, LED_SHAPE, Origin, type PassedOn } from "../../src/express/layout.ts";
import { ipv4 } from "../../src/lib/ip.ts";
import { Tcx } from "../../src/linux/bpf-abi.ts";
import { BpfMap } from "../../src/linux/bpf-map.ts";
import { PacketMemory } from "../../src/packet/memory.ts";
import { ACK, FIN, type Fields, ipPacket, RST, SYN } from "../fakes/ip-packets.ts";
import { bpfTest, useRig } from "./bpf-test.ts";
import { ethernet, type LaneRig, LOCAL, LOOPBACK } from "./lane-rig.ts";

const OWN = "192.0.2.11";
const OWN_TOO = "198.51.100.11";
const CLIENT = "192.0.2.100";
const TCP = 6;
const UDP = 17;
const own = (address: string): EntranceRow => row({ address: ipv4(address), kind: Entrance.OwnAddress });
const row = (fields: Partial<EntranceRow>): EntranceRow => ({
  ...{ address: 0, port: 0, protocol: 0, kind: Entrance.Led, link: 0 },
  ...fields,
});
const ROWS: EntranceRow[] = [
  own(OWN),
  own(OWN_TOO),
  row({ port: 8080, protocol: TCP }),
  row({ port: 53, protocol: UDP }),
  row({ address: ipv4(OWN_TOO), port: 8080, protocol: TCP, kind: Entrance.Held }),
  row({ address: ipv4(OWN), port: 8081, protocol: TCP, link: LOOPBACK }),
  row({ address: ipv4(OWN_TOO), port: 8082, protocol: TCP, link: LOOPBACK + 1 }),
];
const ASK: Fields = { source: CLIENT, destination: OWN, sourcePort: 40_000, destinationPort: 8080, flags: SYN };

function entranceRig(t: ExecutionContext, rows = ROWS): LaneRig {
  const rig = useRig(t);
  rig.control.leadTo(LOOPBACK);
  new Entrances(rig.maps.entrances).put(rows);
  return rig;
}

const LED: [title: string, fields: Partial<Fields>][] = [
  ["a SYN to a published port", {}],
  ["a datagram", { protocol: "udp", destinationPort: 53 }],
  ["a datagram without a checksum", { protocol: "udp", destinationPort: 53, noChecksum: true }],
  ["a port on one address, by that address's link", { destinationPort: 8081 }],
  ["a packet with a TTL of 1, which the agent answers", { ttl: 1 }],
];
for (const [title, fields] of LED) {
  bpfTest(`${title} is led to the agent, as it is`, (t) => {
    const rig = entranceRig(t);
    const frame = ethernet(ipPacket({ ...ASK, ...fields }));
    const run = rig.run(Origin.Node, frame);
    t.is(run.verdict, Tcx.Redirect);
    t.deepEqual(run.frame, frame);
  });
}

const LATER: [title: string, fields: Partial<Fields>][] = [
  ["data", { flags: ACK, payload: new Uint8Array(100) }],
  ["a FIN", { flags: FIN | ACK }],
  ["a RST", { flags: RST }],
  ["an answer to a SYN of its own", { flags: SYN | ACK }],
];
for (const [title, fields] of LATER) {
  bpfTest(`${title} is led in a connection whose SYN was, and left to the stack in others`, (t) => {
    const rig = entranceRig(t);
    const frame = ethernet(ipPacket({ ...ASK, ...fields }));
    t.is(rig.run(Origin.Node, frame).verdict, Tcx.Next);
    t.is(rig.run(Origin.Node, ethernet(ipPacket(ASK))).verdict, Tcx.Redirect);
    t.is(rig.run(Origin.Node, frame).verdict, Tcx.Redirect);
    for (const other of [{ sourcePort: 40_001 }, { source: "192.0.2.101" }, { destinationPort: 8081 }]) {
      t.is(rig.run(Origin.Node, ethernet(ipPacket({ ...ASK, ...fields, ...other }))).verdict, Tcx.Next);
    }
  });
}

bpfTest("more connections than the map of those that were led holds: the last are led, and nothing fails", (t) => {
  const rig = entranceRig(t);
  const memory = new PacketMemory(4096);
  const led = new BpfMap(memory, rig.maps.led, LED_SHAPE);
  for (let i = 0; i < LED_SHAPE.entries; i++) {
    memory.view.setUint32(led.key, i);
    led.update();
  }
  for (let i = 0; i < 1000; i++) {
    const run = (flags: number): number =>
      rig.run(Origin.Node, ethernet(ipPacket({ ...ASK, sourcePort: i, flags }))).verdict;
    if (run(SYN) !== Tcx.Redirect || run(ACK) !== Tcx.Redirect) return t.fail(`connection ${i} was not led`);
  }
  t.pass();
});

bpfTest(
  "datagrams to a port that a socket of the node has are left to the stack, from the one it talks to or all",
  async (t) => {
    const rig = entranceRig(t);
    const ask = (address: string, sourcePort: number, port: number): number => {
      const fields = { source: address, destination: "127.0.0.1", protocol: "udp", sourcePort } as const;
      const run = rig.run(Origin.Node, ethernet(ipPacket({ ...fields, destinationPort: port })));
      return run.verdict;
    };
    const socket = createSocket("udp4");
    t.teardown(() => socket.close());
    socket.bind(0, "0.0.0.0");
    await once(socket, "listening");
    const { port } = socket.address();
    new Entrances(rig.maps.entrances).put([...ROWS, own("127.0.0.1"), row({ port, protocol: UDP })]);
    t.is(ask(CLIENT, 53, port), Tcx.Next);
    socket.connect(53, "127.0.0.1");
    await once(socket, "connect");
    t.is(ask(CLIENT, 53, port), Tcx.Redirect, "the socket does not talk to this client");
  },
);

const LEFT: [title: string, fields: Partial<Fields>][] = [
  ["another port", { destinationPort: 8090 }],
  ["the port of another protocol", { protocol: "udp" }],
  ["a port that a process has on this address", { destination: OWN_TOO }],
  ["a port on one address, by another link", { destination: OWN_TOO, destinationPort: 8082 }],
  ["a port on one address, to another address", { destination: OWN_TOO, destinationPort: 8081 }],
  ["an address that is not the node's", { destination: "203.0.113.1" }],
  ["an address of the overlay", { destination: LOCAL }],
  ["a sender with an address of the overlay", { source: LOCAL }],
  ["a sender with an address of the node", { source: OWN_TOO }],
  ["a sender on the loopback", { source: "127.0.0.1" }],
  ["a sender without an address", { source: "0.0.0.0" }],
  ["a sender that is many", { source: "224.0.0.1" }],
  ["a first fragment", { fragment: 0x2000, flags: ACK }],
  ["a later fragment", { fragment: 0x0010, flags: ACK }],
  ["a ping", { protocol: "icmp" }],
];
for (const [title, fields] of LEFT) {
  bpfTest(`${title} is left to the stack`, (t) => {
    const rig = entranceRig(t);
    const run = rig.run(Origin.Node, ethernet(ipPacket({ ...ASK, ...fields })));
    t.deepEqual([run.verdict, run.reasons], [Tcx.Next, []]);
  });
}

bpfTest("frames of other protocols, short ones, and those for other machines are left to the stack", (t) => {
  const rig = entranceRig(t);
  const packet = ipPacket(ASK);
  t.is(rig.run(Origin.Node, ethernet(packet, { etherType: 0x0806 })).verdict, Tcx.Next);
  t.is(rig.run(Origin.Node, ethernet(packet, { destinationMac: "02:00:00:00:00:09" })).verdict, Tcx.Next);
  t.is(rig.run(Origin.Node, ethernet(packet.subarray(0, 24))).verdict, Tcx.Next);
});

/** An ICMP error about what this node has sent. */
function errorAbout(fields: Partial<Fields>, type = 3): Uint8Array {
  const quoted = ipPacket({ source: OWN, destination: CLIENT, sourcePort: 8080, destinationPort: 40_000, ...fields });
  const error = ipPacket({ source: "203.0.113.7", destination: OWN, protocol: "icmp", payload: quoted.slice(0, 28) });
  error[20] = type;
  return ethernet(error);
}

bpfTest("an ICMP error about an answer of a published port is led too, and no other", (t) => {
  const rig = entranceRig(t);
  t.is(rig.run(Origin.Node, errorAbout({})).verdict, Tcx.Next, "it is about a connection of the node's own");
  t.is(rig.run(Origin.Node, ethernet(ipPacket(ASK))).verdict, Tcx.Redirect);
  for (const type of [3, 11, 12]) t.is(rig.run(Origin.Node, errorAbout({}, type)).verdict, Tcx.Redirect);
  t.is(rig.run(Origin.Node, errorAbout({ protocol: "udp", sourcePort: 53 })).verdict, Tcx.Redirect);
  t.is(rig.run(Origin.Node, errorAbout({}, 5)).verdict, Tcx.Next);
  t.is(rig.run(Origin.Node, errorAbout({ sourcePort: 8090 })).verdict, Tcx.Next);
  t.is(rig.run(Origin.Node, errorAbout({ source: OWN_TOO })).verdict, Tcx.Next);
  t.is(rig.run(Origin.Node, errorAbout({ destinationPort: 40_001 })).verdict, Tcx.Next);
});

bpfTest("rows that find no room are counted; a port of a process that is among them is not led on any address", (t) => {
  const rig = useRig(t);
  rig.control.leadTo(LOOPBACK);
  const entrances = new Entrances(rig.maps.entrances);
  const held = (i: number): EntranceRow => row({ address: i, port: 9000, protocol: TCP, kind: Entrance.Held });
  const many = Array.from({ length: ENTRANCES_SHAPE.entries - 2 }, (_, i) => held(i + 1));
  const published = [own(OWN), row({ port: 8080, protocol: TCP })];
  const run = (): number => rig.run(Origin.Node, ethernet(ipPacket(ASK))).verdict;
  t.is(entrances.put([...published, ...many]), 0);
  t.is(run(), Tcx.Redirect);
  t.is(entrances.put([...published, ...many, row({ ...held(-1), port: 8080 })]), 2);
  t.is(run(), Tcx.Next);
  t.is(entrances.put(published), 0);
  t.deepEqual([entrances.size, run()], [2, Tcx.Redirect]);
});

const OFF: [title: string, reason: PassedOn, turn: (rig: LaneRig) => void][] = [
  ["the lane is off", "Off", (rig) => rig.control.turn(false)],
  ["its lease is over", "LeaseOver", (rig) => rig.control.lease(1n)],
  ["there is no TUN", "Off", (rig) => rig.control.leadTo(0)],
];
for (const [title, reason, turn] of OFF) {
  bpfTest(`nothing is led while ${title}`, (t) => {
    const rig = entranceRig(t);
    turn(rig);
    const run = rig.run(Origin.Node, ethernet(ipPacket(ASK)));
    t.deepEqual([run.verdict, run.reasons.filter((each) => each !== "TcpFlags")], [Tcx.Next, [reason]]);
  });
}

bpfTest("rows that an agent before has left go when they are not wanted any more", (t) => {
  const rig = entranceRig(t);
  const next = new Entrances(rig.maps.entrances);
  next.put(ROWS.filter(({ port, kind }) => port !== 8080 || kind === Entrance.Held));
  t.is(rig.run(Origin.Node, ethernet(ipPacket(ASK))).verdict, Tcx.Next);
  t.is(rig.run(Origin.Node, ethernet(ipPacket({ ...ASK, destinationPort: 8081 }))).verdict, Tcx.Redirect);
  next.put(ROWS.filter(({ kind }) => kind !== Entrance.Held));
  t.is(rig.run(Origin.Node, ethernet(ipPacket({ ...ASK, destination: OWN_TOO }))).verdict, Tcx.Redirect);
});
