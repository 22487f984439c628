// Which published ports are left to processes, and that a process that comes later gets none.
import test from "ava";
import { cidr } from "../../src/lib/ip.ts";
import { type ListedSocket, socketsIn, TCP_LISTEN, UDP_UNCONNECTED } from "../../src/lib/proc-net.ts";
import { HeldPorts } from "../../src/mesh/held-ports.ts";
import type { MeshPort } from "../../src/mesh/mesh.ts";

const POOL = cidr("10.192.0.0/10");
const port = (number: number, address: string | null = null): MeshPort => ({
  protocol: "tcp",
  port: number,
  vip: "10.192.0.9",
  address,
  proxyProtocol: false,
});

const rows: [title: string, port: MeshPort, listening: ListedSocket[], held: string[]][] = [
  ["nobody listens", port(80), [], []],
  ["somebody listens on another port", port(80), [{ address: "0.0.0.0", port: 81 }], []],
  ["somebody listens everywhere", port(80), [{ address: "0.0.0.0", port: 80 }], ["0.0.0.0"]],
  ["somebody listens on one address", port(80), [{ address: "127.0.0.53", port: 80 }], ["127.0.0.53"]],
  [
    "somebody listens everywhere and on one address",
    port(80),
    [
      { address: "127.0.0.1", port: 80 },
      { address: "0.0.0.0", port: 80 },
    ],
    ["0.0.0.0"],
  ],
  ["the gateway's own listener", port(53), [{ address: "10.192.16.1", port: 53 }], []],
  ["published on one address, held on another", port(80, "192.0.2.11"), [{ address: "127.0.0.1", port: 80 }], []],
  [
    "published on one address, held everywhere",
    port(80, "192.0.2.11"),
    [{ address: "0.0.0.0", port: 80 }],
    ["0.0.0.0"],
  ],
  ["an IPv6 address of its own", port(80), [{ address: undefined, port: 80 }], []],
];
for (const [title, published, listening, expected] of rows) {
  test(`${title}: ${expected.length === 0 ? "the port is ours" : `${expected} is left alone`}`, async (t) => {
    const held = await new HeldPorts(async () => ({ tcp: listening, udp: [] })).among([published], POOL);
    t.deepEqual(
      held,
      expected.map((address) => ({ port: published.port, protocol: "tcp", address })),
    );
  });
}

test("a port stays whose it was first, until it is free", async (t) => {
  let tcp: ListedSocket[] = [{ address: "0.0.0.0", port: 80 }];
  const ports = new HeldPorts(async () => ({ tcp, udp: [] }));
  t.is((await ports.among([port(80), port(81)], POOL)).length, 1);
  tcp = [{ address: "0.0.0.0", port: 81 }];
  t.deepEqual(await ports.among([port(80), port(81)], POOL), []);
  tcp = [{ address: "0.0.0.0", port: 80 }];
  t.deepEqual(await ports.among([port(80), port(81)], POOL), [], "one that comes later gets nothing");
  await ports.among([], POOL);
  t.is((await ports.among([port(80)], POOL)).length, 1, "a port that was published anew is anybody's");
});

// As Linux prints them: addresses as words of the machine's order.
const TABLE = `  sl  local_address rem_address   st
   0: 3500007F:0035 00000000:0000 0A 0 1
   1: 0B0200C0:23F0 640200C0:9C40 01 0 1
   2: 00000000:0035 00000000:0000 07 0 1`;
const TABLE6 = `  sl  local_address                         remote_address                        st
   0: 00000000000000000000000000000000:0050 00000000000000000000000000000000:0000 0A 0
   1: 0000000000000000FFFF00000100007F:0051 00000000000000000000000000000000:0000 0A 0
   2: 00000000000000000000000001000000:0052 00000000000000000000000000000000:0000 0A 0`;

test("the kernel's tables are read", (t) => {
  t.deepEqual(socketsIn(TABLE, TCP_LISTEN), [{ address: "127.0.0.53", port: 53 }]);
  t.deepEqual(socketsIn(TABLE, UDP_UNCONNECTED), [{ address: "0.0.0.0", port: 53 }]);
  t.deepEqual(socketsIn(TABLE6, TCP_LISTEN), [
    { address: "0.0.0.0", port: 80 },
    { address: "127.0.0.1", port: 81 },
    { address: undefined, port: 82 },
  ]);
});
