// What an entry counts of the packets that the lane carried: what the agent's own path would have counted.
import { Origin } from "../../src/express/layout.ts";
import { ACK, type Fields, ipPacket } from "../fakes/ip-packets.ts";
import { bpfTest, useRig } from "./bpf-test.ts";
import { CLIENT_PORT, ethernet, fromPeer, LOCAL, REMOTE, SERVER_PORT, toPeer, vxlan } from "./lane-rig.ts";

const OUT: Fields = {
  ...{ source: LOCAL, destination: REMOTE, sourcePort: CLIENT_PORT, destinationPort: SERVER_PORT, flags: ACK },
};
const IN: Fields = {
  ...{ source: REMOTE, destination: LOCAL, sourcePort: SERVER_PORT, destinationPort: CLIENT_PORT, flags: ACK },
};

bpfTest("packets and bytes of IP packets are counted, and when the last one was seen", (t) => {
  const udp = { protocol: 17 };
  const rig = useRig(t, toPeer(), fromPeer(), toPeer(udp), fromPeer(udp));
  const lengths = [0, 1, 700, 1398];
  const before = process.hrtime.bigint();
  for (const length of lengths) {
    const payload = new Uint8Array(length);
    for (const protocol of ["tcp", "udp"] as const) {
      rig.run(Origin.Container, ethernet(ipPacket({ ...OUT, protocol, payload })));
      rig.run(Origin.Underlay, vxlan(ipPacket({ ...IN, protocol, payload })));
    }
  }
  const after = process.hrtime.bigint();
  const payloads = lengths.reduce((sum, length) => sum + length, 0);
  for (const [entry, headers] of [
    [toPeer(), 40],
    [fromPeer(), 40],
    [toPeer(udp), 28],
    [fromPeer(udp), 28],
  ] as const) {
    const { packets, bytes, seen } = rig.counted(entry);
    t.is(packets, lengths.length);
    t.is(bytes, payloads + headers * lengths.length);
    t.true(seen > before - 1_000_000_000n && seen <= after, "the clock is CLOCK_MONOTONIC, at a tick's resolution");
  }
});

bpfTest("a container's super-packet counts as one packet, a peer's as the packets that were on the wire", (t) => {
  const rig = useRig(t, toPeer(), fromPeer());
  const payload = new Uint8Array(2801);
  const options = new Uint8Array(12).fill(1); // headers of 52 bytes
  const gso = { gsoBytes: 1388, gsoSegments: 3 };
  rig.run(Origin.Container, ethernet(ipPacket({ ...OUT, payload, options })), gso);
  rig.run(Origin.Underlay, vxlan(ipPacket({ ...IN, payload, options })), gso);
  const out = rig.counted(toPeer());
  t.deepEqual([out.packets, out.bytes], [1, 52 + 2801]);
  const back = rig.counted(fromPeer());
  t.deepEqual([back.packets, back.bytes], [3, 3 * 52 + 2801]);
});

bpfTest(
  "the TCP numbers go forward with what is sent and acknowledged, and a retransmission does not turn them back",
  (t) => {
    const steps: [sequence: number, acknowledgment: number, bytes: number, next: number, acknowledged: number][] = [
      [1000, 500, 100, 1100, 500],
      [1100, 500, 0, 1100, 500],
      [1000, 400, 100, 1100, 500], // again
      [1100, 600, 50, 1150, 600],
      [1050, 700, 200, 1250, 700], // overlaps
    ];
    const ways = [
      [Origin.Container, toPeer, (packet: Uint8Array) => ethernet(packet), OUT],
      [Origin.Underlay, fromPeer, (packet: Uint8Array) => vxlan(packet), IN],
    ] as const;
    for (const [origin, entry, frame, fields] of ways) {
      for (const base of [0, 0x7fff_fff0 - 1000, 0xffff_ff00 - 1000]) {
        const at = (number: number): number => (number + base) % 2 ** 32;
        const rig = useRig(t, entry());
        for (const [sequence, acknowledgment, bytes, next, acknowledged] of steps) {
          const numbers = { sequence: at(sequence), acknowledgment: at(acknowledgment) };
          rig.run(origin, frame(ipPacket({ ...fields, ...numbers, payload: new Uint8Array(bytes) })));
          const counted = rig.counted(entry());
          t.is(counted.sequence, at(next));
          t.is(counted.acknowledgment, at(acknowledged));
        }
      }
    }
  },
);

bpfTest("an entry begins with what the agent gives it, and counts on from there", (t) => {
  const entry = toPeer({ sequence: 0xf000_0000 | 0, acknowledgment: 77, packets: 5, bytes: 2 ** 33 + 1 });
  const rig = useRig(t, entry);
  t.like(rig.counted(entry), { sequence: 0xf000_0000, acknowledgment: 77, packets: 5, bytes: 2 ** 33 + 1, seen: 0n });
  rig.run(Origin.Container, ethernet(ipPacket({ ...OUT, sequence: 0xefff_ff00, acknowledgment: 10 })));
  t.like(rig.counted(entry), { sequence: 0xf000_0000, acknowledgment: 77, packets: 6, bytes: 2 ** 33 + 41 });
});
