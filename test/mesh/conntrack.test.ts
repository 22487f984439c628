// The kernel's entries that end, its counters of drops, and that none of its time-outs is shorter than ours.
import test from "ava";
import { CommandError } from "../../src/lib/command.ts";
import { TCP_TIMEOUT_SECONDS as TCP, UDP_TIMEOUT_SECONDS as UDP } from "../../src/lib/flow-timeouts.ts";
import { cidr } from "../../src/lib/ip.ts";
import { conntrackDropsIn, endStaleTcpFlows, endUdpFlows } from "../../src/mesh/conntrack.ts";
import { CONNTRACK_TIMEOUT_SECONDS } from "../../src/mesh/conntrack-timeouts.ts";
import type { MeshPort } from "../../src/mesh/mesh.ts";

const POOL = cidr("10.192.0.0/10");

function port(protocol: MeshPort["protocol"], number: number, vip: string, address: string | null = null): MeshPort {
  return { protocol, port: number, vip, address, onEveryLink: address === null };
}

test("a flow that ends while flows are ended does not keep the others", async (t) => {
  const calls: string[] = [];
  const flow = (port: number) =>
    `udp      17 29 src=192.0.2.1 dst=192.0.2.11 sport=40000 dport=${port} src=10.192.32.3`;
  await endUdpFlows(new Set([53, 54, 55]), async (argv) => {
    calls.push(argv.join(" "));
    if (argv.at(-1) === "53") throw new CommandError(argv, 1, "", "0 flow entries have been deleted.");
    return argv[0] === "-L" ? [53, 55, 56].map(flow).join("\n") : "";
  });
  t.deepEqual(calls, ["-L -p udp", "-D -p udp --dport 53", "-D -p udp --dport 55"]);
});

test("flows that cannot be listed are told of", async (t) => {
  const refused = new CommandError(["conntrack"], 1, "", "Operation failed: Operation not permitted");
  await t.throwsAsync(
    endUdpFlows(new Set([53]), () => Promise.reject(refused)),
    { is: refused },
  );
});

function tcpEntry(port: number, server: string, state = "TIME_WAIT"): string {
  const asked = `src=192.0.2.1 dst=192.0.2.11 sport=40000 dport=${port}`;
  return `tcp      6 9 ${state} ${asked} src=${server} dst=192.0.2.1 sport=${port} dport=40000 [ASSURED] mark=0 use=1`;
}

test("of TCP only entries end that lead to a VIP which the port has left", async (t) => {
  const calls: string[] = [];
  const ports = [port("tcp", 80, "10.192.0.9"), port("tcp", 90, "10.192.0.9"), port("udp", 70, "10.192.0.9")];
  const listing = [
    tcpEntry(80, "10.192.0.9", "ESTABLISHED"), // leads where the port leads
    tcpEntry(80, "10.192.0.8", "ESTABLISHED"), // twice: one command
    tcpEntry(80, "10.192.0.8"),
    tcpEntry(80, "192.0.2.11", "ESTABLISHED"), // a process of the node had the port, and goes on with its connection
    tcpEntry(90, "10.192.0.8"), // not among the ports that changed
    tcpEntry(70, "10.192.0.8"), // published for UDP alone
    tcpEntry(60, "10.192.0.8"), // published no more: resets for its clients pass by the entry
  ].join("\n");
  await endStaleTcpFlows(new Set([80, 70, 60]), ports, POOL, async (argv) => {
    calls.push(argv.join(" "));
    return argv[0] === "-L" ? listing : "";
  });
  t.deepEqual(calls, ["-L -p tcp", "-D -p tcp --orig-port-dst 80 --reply-src 10.192.0.8"]);
});

test("without a TCP port that changed nothing is listed", async (t) => {
  await endStaleTcpFlows(new Set([60]), [port("tcp", 80, "10.192.0.9")], POOL, () =>
    Promise.reject(new Error("asked")),
  );
  t.pass();
});

test("drops are the sum over the processors, of columns found by their names", (t) => {
  const text = `entries  clashres found new invalid ignore delete chainlength insert insert_failed drop early_drop icmp_error
00000009  00000000 00000000 00000000 00000001 00000000 00000000 00000000 00000000 00000000 0000001f 00000002 00000000
00000009  00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000001 00000010 00000000
`;
  t.deepEqual(conntrackDropsIn(text), { "conntrack-full": 32, "conntrack-evicted": 18 });
  t.deepEqual(conntrackDropsIn(""), { "conntrack-full": 0, "conntrack-evicted": 0 });
});

const { tcp, udp } = CONNTRACK_TIMEOUT_SECONDS;
/** A state of the flow table, and the states that nf_conntrack may have for the same connection. */
const PAIRS: [state: string, ours: number, theirs: Record<string, number>][] = [
  ["SynSent", TCP.SynSent, { syn_sent: tcp.syn_sent }],
  ["SynReceived", TCP.SynReceived, { syn_recv: tcp.syn_recv }],
  ["Established", TCP.Established, { established: tcp.established, retrans: tcp.retrans, unack: tcp.unack }],
  [
    "FinWait",
    TCP.FinWait,
    { fin_wait: tcp.fin_wait, close_wait: tcp.close_wait, retrans: tcp.retrans, unack: tcp.unack },
  ],
  ["CloseWait", TCP.CloseWait, { fin_wait: tcp.fin_wait, close_wait: tcp.close_wait, unack: tcp.unack }],
  ["LastAck", TCP.LastAck, { last_ack: tcp.last_ack, time_wait: tcp.time_wait }],
  ["TimeWait", TCP.TimeWait, { last_ack: tcp.last_ack, time_wait: tcp.time_wait }],
  ["Closed", TCP.Closed, { close: tcp.close }],
  ["UDP unreplied", UDP.Unreplied, { unreplied: udp.unreplied }],
  ["UDP replied", UDP.Replied, { unreplied: udp.unreplied, replied: udp.replied }],
];

for (const [state, ours, theirs] of PAIRS) {
  test(`nf_conntrack keeps a connection at least as long as the flow table: ${state}`, (t) => {
    for (const [name, seconds] of Object.entries(theirs)) t.true(seconds >= ours, `${name}: ${seconds} s of ${ours}`);
  });
}

test("every state of the flow table is compared", (t) => {
  const states = [...Object.keys(TCP), ...Object.keys(UDP).map((name) => `UDP ${name.toLowerCase()}`)];
  t.deepEqual(PAIRS.map(([state]) => state).sort(), states.sort());
});
