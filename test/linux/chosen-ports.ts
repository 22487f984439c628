// Opens as many underlays as the argument says on ports of the kernel's choice, and prints each port on a line.
import { ipv4 } from "../../src/lib/ip.ts";
import { openUdpUnderlay } from "../../src/linux/udp-underlay.ts";
import { PacketMemory } from "../../src/packet/memory.ts";

const address = ipv4("127.0.0.1");
const open = Array.from({ length: Number(process.argv[2]) }, () =>
  openUdpUnderlay(new PacketMemory(2 << 20), { address, port: 0 }),
);
for (const { port } of open) console.log(port);
for (const underlay of open) underlay.close();
