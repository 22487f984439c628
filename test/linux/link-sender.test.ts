// Which addresses a link is looked up for. That packets go onto links is shown on a real kernel.
import test from "ava";
import { DeviceQueue } from "../../src/datapath/batch.ts";
import { cidr, contains, ipv4 } from "../../src/lib/ip.ts";
import * as libc from "../../src/linux/libc.ts";
import { LinkSender } from "../../src/linux/link-sender.ts";
import { openUdpSocket } from "../../src/linux/udp-socket.ts";
import { DESTINATION_AT } from "../../src/packet/ipv4.ts";
import { PacketMemory } from "../../src/packet/memory.ts";
import { ipPacket } from "../fakes/ip-packets.ts";

const POOL = cidr("10.192.0.0/10");
const OUTSIDE = 5000;

test("clients outside are looked up for nothing, and however many there are, the links of containers are kept", (t) => {
  const memory = new PacketMemory(1 << 20);
  const asked: number[] = [];
  const fd = openUdpSocket();
  const links = new LinkSender(memory, fd, {
    isOurs: (address) => contains(POOL, address),
    name: (address) => {
      asked.push(address);
      return "lo";
    },
    mac: () => "02:42:0a:c0:20:0a",
    source: "02:42:00:00:00:01",
    now: () => 0,
  });
  const queue = new DeviceQueue(1, 1);
  const packet = ipPacket({ source: "10.192.32.11", destination: "10.192.32.10" });
  const at = memory.alloc(packet.length);
  memory.u8.set(packet, at);
  queue.slice(at, packet.length);
  queue.finish();
  t.true(links.add(queue, 0));
  for (let i = 0; i < OUTSIDE; i++) {
    memory.view.setInt32(at + DESTINATION_AT, ipv4("198.18.0.0") + i);
    if (links.add(queue, 0)) t.fail("an address outside has a link");
  }
  memory.view.setInt32(at + DESTINATION_AT, ipv4("10.192.32.10"));
  t.true(links.add(queue, 0));
  t.deepEqual(asked, [ipv4("10.192.32.10")]);
  libc.close(fd);
});
