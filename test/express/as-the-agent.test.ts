// A packet looks the same whether the lane or the agent carried it: the same connections go through two in-process agents, and the same
// packets through the programs of the first one's node. Every byte of frames and packets is compared, and what was counted.
import type { ExecutionContext } from "ava";
import { Origin } from "../../src/express/layout.ts";
import { Tcx } from "../../src/linux/bpf-abi.ts";
import type { Datagram } from "../fakes/in-process.ts";
import { ACK, type Fields, ipPacket, PSH } from "../fakes/ip-packets.ts";
import { WEB } from "../fakes/two-nodes.ts";
import { bpfTest, useRig } from "./bpf-test.ts";
import { back, type Connection, connect, entriesOf, out, send } from "./connections.ts";
import { ethernet, type LaneRig, REMOTE, VIP, vxlan } from "./lane-rig.ts";

const LENGTHS = [0, 1, 100, 1001, 1398];
const VARIANTS: Partial<Fields>[] = [
  {},
  { tos: 0xb8 },
  { tos: 0x02, ttl: 2, id: 77 },
  { tos: 0x01, ttl: 255, fragment: 0 },
  { tos: 0x03, flags: ACK | PSH },
];

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");

/** Sends the packet from the client both ways, and compares. */
function compareOut(t: ExecutionContext, connection: Connection, rig: LaneRig, packet: Uint8Array): void {
  const { frames } = send(connection, 0, packet);
  const run = rig.run(Origin.Container, ethernet(packet));
  t.is(run.verdict, Tcx.Redirect, run.reasons.join());
  t.is(frames.length, 1);
  t.is(hex(run.frame.subarray(42)), hex(frames[0]!.payload));
  t.is(run.frame[15], frames[0]!.tos);
  t.is((run.frame[34]! << 8) | run.frame[35]!, frames[0]!.fromPort);
}

/** Sends the packet from the server through the agents, and its frame through the lane of the client's node. */
function compareBack(t: ExecutionContext, connection: Connection, rig: LaneRig, packet: Uint8Array): void {
  const { frames, written } = send(connection, 1, packet);
  const [{ tos, fromPort, payload }] = frames as [Datagram];
  const frame = vxlan(payload.subarray(22), { tos, sourcePort: fromPort, noChecksum: false }, { vni: WEB });
  const run = rig.run(Origin.Underlay, frame);
  t.is(written.length, 1);
  if (tos === 3) {
    t.deepEqual(run.reasons, ["Congestion"]);
    return;
  }
  t.is(run.verdict, Tcx.Redirect, run.reasons.join());
  t.is(hex(run.frame.subarray(14)), hex(written[0]!));
}

for (const protocol of ["tcp", "udp"] as const) {
  for (const [title, target] of [
    ["an endpoint", REMOTE],
    ["a VIP", VIP],
  ] as const) {
    bpfTest(`${protocol} to ${title}: frames, packets and counts are those of the agent`, async (t) => {
      const connection = await connect(protocol, target);
      const { frames } = send(connection, 0, ipPacket({ ...out(connection), sequence: 1000, acknowledgment: 5000 }));
      const entries = entriesOf(connection, frames[0]!.fromPort);
      const rig = useRig(t, ...entries);
      const flow = (): { packets: number; bytes: number } => connection.fake.nodes[0]!.flows()[0]!;
      const before = flow();
      let passedOn = { packets: 0, bytes: 0 };
      for (const variant of VARIANTS) {
        for (const length of LENGTHS) {
          const fields = { ...variant, payload: new Uint8Array(length).map((_, i) => i * 5 + length) };
          compareOut(
            t,
            connection,
            rig,
            ipPacket({ ...out(connection), ...fields, sequence: 1000, acknowledgment: 5000 }),
          );
          const answer = ipPacket({ ...back(connection), ...fields, sequence: 5000, acknowledgment: 1000 });
          compareBack(t, connection, rig, answer);
          if (variant.tos === 3) passedOn = { packets: passedOn.packets + 1, bytes: passedOn.bytes + answer.length };
        }
      }
      const after = flow();
      const counted = entries.map((entry) => rig.counted(entry));
      const sum = (what: "packets" | "bytes"): number =>
        counted.reduce((total, one) => total + one[what], passedOn[what]);
      t.is(sum("packets"), after.packets - before.packets);
      t.is(sum("bytes"), after.bytes - before.bytes);
    });
  }
}

bpfTest("a container's super-packet counts as it does in the agent", async (t) => {
  const connection = await connect("tcp", REMOTE);
  const [entry] = entriesOf(connection, 50_000);
  const rig = useRig(t, entry);
  const packet = ipPacket({
    ...out(connection),
    sequence: 1000,
    acknowledgment: 5000,
    partial: true,
    payload: new Uint8Array(2900),
  });
  const flow = (): { packets: number; bytes: number } => connection.fake.nodes[0]!.flows()[0]!;
  const before = flow();
  t.is(send(connection, 0, packet, 1000).frames.length, 3);
  rig.run(Origin.Container, ethernet(packet), { gsoBytes: 1000, gsoSegments: 3 });
  const { packets, bytes } = rig.counted(entry);
  t.deepEqual({ packets, bytes }, { packets: flow().packets - before.packets, bytes: flow().bytes - before.bytes });
});
