// Which published ports are left to processes, and that a process that comes later gets none.
import test from "ava";
import { cidr } from "../../src/lib/ip.ts";
import { HeldPorts, type ListeningSocket, listenersIn } from "../../src/mesh/held-ports.ts";
import type { MeshPort } from "../../src/mesh/mesh.ts";

const POOL = cidr("10.192.0.0/10");
const port = (number: number, address: string | null = null): MeshPort => ({
  protocol: "tcp",
  port: number,
  vip: "10.192.0.9",
  address,
  onEveryLink: false,
});

const tcp = (address: string, port: number): ListeningSocket => ({ protocol: "tcp", address, port });

const rows: [title: string, port: MeshPort, listening: ListeningSocket[], held: string[]][] = [
  ["nobody listens", port(80), [], []],
  ["somebody listens on another port", port(80), [tcp("0.0.0.0", 81)], []],
  ["somebody listens everywhere", port(80), [tcp("0.0.0.0", 80)], ["0.0.0.0"]],
  ["somebody listens on one address", port(80), [tcp("127.0.0.53", 80)], ["127.0.0.53"]],
  ["somebody listens everywhere and on one address", port(80), [tcp("127.0.0.1", 80), tcp("0.0.0.0", 80)], ["0.0.0.0"]],
  ["the gateway's own listener", port(53), [tcp("10.192.16.1", 53)], []],
  ["published on one address, held on another", port(80, "192.0.2.11"), [tcp("127.0.0.1", 80)], []],
  ["published on one address, held everywhere", port(80, "192.0.2.11"), [tcp("0.0.0.0", 80)], ["0.0.0.0"]],
  ["somebody has it in another protocol", port(80), [{ ...tcp("0.0.0.0", 80), protocol: "udp" }], []],
];
for (const [title, published, listening, expected] of rows) {
  test(`${title}: ${expected.length === 0 ? "the port is ours" : `${expected} is left alone`}`, async (t) => {
    const held = await new HeldPorts(async () => listening).among([published], POOL);
    t.deepEqual(
      held,
      expected.map((address) => ({ port: published.port, protocol: "tcp", address })),
    );
  });
}

test("a port stays whose it was first, until it is free", async (t) => {
  let listeners: ListeningSocket[] = [tcp("0.0.0.0", 80)];
  const ports = new HeldPorts(async () => listeners);
  t.is((await ports.among([port(80), port(81)], POOL)).length, 1);
  listeners = [tcp("0.0.0.0", 81)];
  t.deepEqual(await ports.among([port(80), port(81)], POOL), []);
  listeners = [tcp("0.0.0.0", 80)];
  t.deepEqual(await ports.among([port(80), port(81)], POOL), [], "one that comes later gets nothing");
  await ports.among([], POOL);
  t.is((await ports.among([port(80)], POOL)).length, 1, "a port that was published anew is anybody's");
});

const LISTING = `udp UNCONN 0      0           127.0.0.53%lo:53   0.0.0.0:*
udp UNCONN 0      0                    [::]:5353    [::]:*
tcp LISTEN 0      4096              0.0.0.0:22   0.0.0.0:*
tcp LISTEN 0      128                     *:80         *:*
tcp LISTEN 0      128    [::ffff:127.0.0.1]:81         *:*
tcp LISTEN 0      128                 [::1]:82      [::]:*
tcp LISTEN 0      128      [fe80::1]%eth0:83        [::]:*
`;

test("what ss lists is read; IPv6 sockets that take no IPv4 hold nothing", (t) => {
  t.deepEqual(listenersIn(LISTING), [
    { protocol: "udp", address: "127.0.0.53", port: 53 },
    { protocol: "tcp", address: "0.0.0.0", port: 22 },
    { protocol: "tcp", address: "0.0.0.0", port: 80 },
    { protocol: "tcp", address: "127.0.0.1", port: 81 },
  ]);
});
