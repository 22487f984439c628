// Packets that are refused at the last step are counted one by one, however they were joined. Everything that is taken is accounted
// for in all tests with fake nodes: settle() looks.
import test from "ava";
import { ipv4 } from "../../src/lib/ip.ts";
import { Gso } from "../../src/packet/virtio-net.ts";
import { unaccounted } from "../fakes/balance.ts";
import { frame } from "../fakes/frames.ts";
import { ACK, ipPacket } from "../fakes/ip-packets.ts";
import { A, B, cluster, exchange, WEB } from "../fakes/two-nodes.ts";

const TASK_A = "10.192.32.10";
const TASK_B = "10.192.32.20";

test("a device that is full: each packet of a train that was joined is counted", async (t) => {
  const fake = await cluster({ join: true });
  fake.nodes[0]!.device.isFull = true;
  const { drops } = exchange(fake, () => {
    for (let i = 0; i < 10; i++) {
      const segment = { source: TASK_B, destination: TASK_A, flags: ACK, sequence: 1 + 100 * i, id: i };
      const payload = frame(ipPacket({ ...segment, payload: new Uint8Array(100) }), { vni: WEB });
      fake.wire.carry({ from: ipv4(B), fromPort: 50_000, to: ipv4(A), toPort: 4789, tos: 0, payload });
    }
  });
  t.deepEqual(drops[0], { "device-refused": 10 });
});

test("a wire that is too narrow: each segment of a super-packet is counted", async (t) => {
  const fake = await cluster();
  fake.wire.mtu = 1000;
  const packet = { source: TASK_A, destination: TASK_B, flags: ACK, partial: true, payload: new Uint8Array(14_000) };
  const { drops } = exchange(fake, () =>
    fake.nodes[0]!.device.inject(ipPacket(packet), { gso: Gso.Tcp4, gsoBytes: 1400 }),
  );
  t.deepEqual(drops[0], { "underlay-refused": 10 });
});

test("what the wire loses because nobody receives is counted", async (t) => {
  const fake = await cluster();
  const { drops } = exchange(fake, () => {
    for (let i = 0; i < 1030; i++) {
      const payload = frame(ipPacket({ source: TASK_B, destination: TASK_A, protocol: "udp" }), { vni: WEB });
      fake.wire.carry({ from: ipv4(B), fromPort: 50_000, to: ipv4(A), toPort: 4789, tos: 0, payload });
    }
  });
  t.deepEqual(drops[0], { "underlay-overrun": 6 });
});

test("a packet that is nowhere is noticed", (t) => {
  const packets = { taken: 10, forwarded: 5, answered: 1 };
  t.is(unaccounted({ packets, drops: { "no-route": 3, "device-refused": 4 } }), 1);
});
