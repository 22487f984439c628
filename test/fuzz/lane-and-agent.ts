// The lane beside the agent under fuzz: what the lane carries of packets that are nearly right, the agent carries too, and in the same
// bytes. What the lane passes on, the agent gets anyway.
import fc from "fast-check";
import { Origin } from "../../src/express/layout.ts";
import { ipv4 } from "../../src/lib/ip.ts";
import { Tcx } from "../../src/linux/bpf-abi.ts";
import { back, type Connection, connect, entriesOf, out, send } from "../express/connections.ts";
import { ethernet, LaneRig, PEER, REMOTE, SELF, VIP, VXLAN_PORT, vxlan } from "../express/lane-rig.ts";
import { canonical } from "../express/sums.ts";
import { ACK, completed, describe, type Fields, ipPacket, PSH } from "../fakes/ip-packets.ts";
import { exchange, WEB } from "../fakes/two-nodes.ts";
import { mutated, mutation } from "./mutation.ts";

const SHAPES: Partial<Fields>[] = [
  { flags: ACK, payload: new Uint8Array(900).fill(7) },
  { flags: ACK | PSH, payload: new Uint8Array(13).fill(7), options: new Uint8Array(12).fill(1), tos: 2 },
  { payload: new Uint8Array(1398).fill(3) },
  { tos: 0xb9, fragment: 0 },
];

/** The rig is the route's own: a changed port may be that of another. */
interface Route {
  rig: LaneRig;
  connection: Connection;
  sourcePort: number;
}

/** What became of so many packets; throws with the input that the agent would have carried otherwise, or not at all. */
export async function fuzzBesideAgent(packets: number, seed: number): Promise<Record<string, number>> {
  const routes: Route[] = []; // BOUNDED: by two protocols and two targets
  const outcome = new Map<string, number>(); // BOUNDED: by three words
  try {
    for (const protocol of ["tcp", "udp"] as const) {
      for (const target of [REMOTE, VIP]) {
        const connection = await connect(protocol, target, 40_000 + 100 * routes.length);
        const { frames } = send(connection, 0, ipPacket({ ...out(connection), sequence: 1000, acknowledgment: 5000 }));
        const { fromPort: sourcePort } = frames[0]!;
        const rig = new LaneRig();
        routes.push({ rig, connection, sourcePort });
        for (const entry of entriesOf(connection, sourcePort)) rig.enter(entry);
      }
    }
    const input = fc.record({
      which: fc.nat(routes.length - 1),
      shape: fc.constantFrom(...SHAPES.keys()),
      isOut: fc.boolean(),
      mutation,
    });
    fc.assert(
      fc.property(input, ({ which, shape, isOut, mutation }) => {
        const route = routes[which]!;
        const numbers = { sequence: isOut ? 1000 : 5000, acknowledgment: isOut ? 5000 : 1000 };
        const packet = ipPacket({ ...(isOut ? out : back)(route.connection), ...SHAPES[shape], ...numbers });
        const changed = mutated(packet, 0, mutation);
        if (changed.length < 20) return; // the kernel runs no program on it
        const isCarried = isOut ? sameOut(route, changed) : sameBack(route, changed);
        const what = isCarried ? (isOut ? "encapsulated" : "delivered") : "passed on";
        outcome.set(what, (outcome.get(what) ?? 0) + 1);
      }),
      { numRuns: packets, seed, endOnFailure: true },
    );
  } finally {
    for (const { rig } of routes) rig.close();
  }
  return Object.fromEntries(outcome);
}

/** Whether the transport checksum is right. One that is wrong the agent refuses; the lane carries it wrong, and the receiver refuses it. */
function isRight(packet: Uint8Array): boolean {
  return describe(packet).transportChecksum === "right";
}

/** Whether the lane carries a container's packet. */
function sameOut({ rig, connection }: Route, packet: Uint8Array): boolean {
  const run = rig.run(Origin.Container, ethernet(packet));
  if (run.verdict !== Tcx.Redirect) return false;
  if (!isRight(packet)) return true;
  const { frames } = send(connection, 0, packet);
  const [frame] = frames;
  if (frames.length !== 1) throw new Error(`the agent makes ${frames.length} frames of it`);
  const fields = [22 + 10, 22 + (packet[9] === 6 ? 36 : 26)];
  if (canonical(run.frame.subarray(42), fields) !== canonical(frame!.payload, fields)) throw new Error("other bytes");
  if (run.frame[15] !== frame!.tos) throw new Error("another TOS");
  return true;
}

/** Whether the lane carries a peer's packet. */
function sameBack({ rig, connection, sourcePort }: Route, packet: Uint8Array): boolean {
  const frame = vxlan(packet, { sourcePort, noChecksum: false }, { vni: WEB });
  const run = rig.run(Origin.Underlay, frame);
  if (run.verdict !== Tcx.Redirect) return false;
  if (!isRight(packet)) return true;
  const from = { from: ipv4(PEER), fromPort: sourcePort, to: ipv4(SELF), toPort: VXLAN_PORT, tos: 0 };
  const [node] = connection.fake.nodes;
  const { written } = exchange(connection.fake, () => node!.underlay.deliver({ ...from, payload: frame.slice(42) }));
  const [got] = written[0]!;
  if (written[0]!.length !== 1) throw new Error(`the agent makes ${written[0]!.length} packets of it`);
  const fields = [10, packet[9] === 6 ? 36 : 26];
  if (canonical(run.frame.subarray(14), fields) !== canonical(completed(got!.bytes), fields))
    throw new Error("other bytes");
  return true;
}
