// The express lane is closed: whatever a container or a host of the underlay sends, by every kind of packet, arrives where it arrives
// without the lane, and nowhere else. programs/forge.py sends each packet in a flow of its own: with these flows in the lane, without the
// lane, and with the flows in the lane while no agent runs.
import { fileURLToPath } from "node:url";
import test, { type ExecutionContext } from "ava";
import { ipv4, macOf } from "../../src/lib/ip.ts";
import { HOST_MAC } from "../../src/links/desired.ts";
import { whatBpfLacks } from "../../src/linux/bpf-probe.ts";
import { waitFor } from "./command.ts";
import { Driver } from "./kernel.ts";
import type { Lab, LabHost, LabNode } from "./lab.ts";
import { addressOf, namespaceOf, networkOf, untilRunning, vipOf } from "./listings.ts";
import { program } from "./program.ts";
import { systemTest, useLab } from "./system-test.ts";

const PREFIX = "cls";
const PORT = 7;
/** Where the clients' ports begin; each round of flows has its own. */
const FIRST_PORTS = { on: 10_000, off: 20_000, dead: 30_000 };
const MOST_FLOWS = 5000;
const SEED = Number(process.env.OVERLAYD_TEST_SEED ?? 20_261_130);
/** Packets with random bytes for each kind of flow. */
const NOISE = Number(process.env.OVERLAYD_TEST_FORGED ?? 20);
const LACK = process.getuid?.() === 0 ? whatBpfLacks() : undefined;

const KINDS = [
  { protocol: "tcp", server: "far by its VIP", by: "client" },
  { protocol: "udp", server: "far", by: "client" },
  { protocol: "tcp", server: "near", by: "client" },
  { protocol: "udp", server: "near by its VIP", by: "client" },
  { protocol: "tcp", server: "far by its VIP", by: "server" },
  { protocol: "udp", server: "near by its VIP", by: "server" },
];

/** What arrived, by flow and case: a line for each place and each form. */
type Arrived = Record<string, string[]>;

const lab = useLab(
  { prefix: PREFIX, nodes: 2, settings: { datapath: { express: "auto", expressFlows: 16_384 } } },
  async ({ nodes: [node1, node2] }: Lab) => {
    for (const network of ["red", "blue"]) await node1!.ctl("network", "create", network);
    const services: [string, string, LabNode][] = [
      ["client", "red", node1!],
      ["near", "red", node1!],
      ["far", "red", node2!],
      ["blue-near", "blue", node1!],
      ["blue-far", "blue", node2!],
    ];
    await Promise.all(
      services.map(([name, network, node]) => {
        const where = ["--network", network, "--constraint", `node.name==${node.name}`];
        return node1!.ctl("service", "create", "--name", name, ...where, "--", ...program("echo-server", PORT));
      }),
    );
  },
);

async function linkMac(host: LabHost): Promise<string> {
  const [link] = JSON.parse(await host.exec(["ip", "-j", "link", "show", "eth0"])) as [{ address: string }];
  return link.address;
}

/** Starts the sender, and tells it of the places. */
async function startForge(t: ExecutionContext): Promise<Driver> {
  const [node1, node2] = lab().nodes;
  const outsider = await lab().addHost("outsider", 77);
  const places: Record<string, object> = {};
  const addresses = new Map<string, string>(); // BOUNDED: by the services
  for (const service of ["client", "near", "far", "blue-near", "blue-far"]) {
    const [task] = await untilRunning(node1!, service, 1);
    const address = addressOf(task!);
    addresses.set(service, address);
    const macs = { mac: macOf(ipv4(address)), gatewayMac: HOST_MAC };
    const netns = `/run/netns/${namespaceOf(task!)}`;
    places[service.replace("-", " ")] = { kind: "container", netns, address, ...macs };
  }
  for (const [name, host] of [["node1", node1!] as const, ["node2", node2!] as const, ["outsider", outsider] as const])
    places[name] = {
      kind: name === "outsider" ? "outsider" : "node",
      ...{ netns: `/run/netns/${host.netns}`, address: host.address, mac: await linkMac(host), gatewayMac: HOST_MAC },
    };
  const red = await networkOf(node1!, "red");
  const blue = await networkOf(node1!, "blue");
  const server = async (service: string, node: string, isByVip: boolean): Promise<object> => {
    const address = addresses.get(service)!;
    return { place: service, node, address, visible: isByVip ? await vipOf(node1!, service) : address };
  };
  const forge = new Driver([
    "/usr/bin/python3",
    fileURLToPath(new URL("../../../test/system/programs/forge.py", import.meta.url)),
  ]);
  t.teardown(() => forge.kill());
  await forge.call("begin", {
    ...{ places, port: PORT, vni: red.vni, otherVni: blue.vni, kinds: KINDS, seed: SEED, noise: NOISE },
    servers: {
      near: await server("near", "node1", false),
      far: await server("far", "node2", false),
      "near by its VIP": await server("near", "node1", true),
      "far by its VIP": await server("far", "node2", true),
    },
    addresses: {
      "the gateway": red.gateway,
      "another network's gateway": blue.gateway,
      "another network's VIP": await vipOf(node1!, "blue-far"),
      "the VIP": await vipOf(node1!, "far"),
      "the next hop": "169.254.1.1",
      "a loopback": "127.0.0.1",
      "no address": "0.0.0.0",
      "the broadcast address": "255.255.255.255",
      "a multicast group": "224.0.0.1",
    },
  });
  return forge;
}

/** Opens a flow for each case, and waits until all of them are in the lanes, or none is. */
async function openFlows(forge: Driver, firstPort: number, inLane: boolean): Promise<void> {
  const count = (await forge.call("open", firstPort)) as number;
  const isWanted = (flow: { client: string }): boolean => {
    const port = Number(flow.client.split(":")[1]);
    return port >= firstPort && port < firstPort + count;
  };
  for (const [i, node] of lab().nodes.entries()) {
    await waitFor(
      async () => {
        await forge.call("talk");
        const flows = (await node.api.flows({ limit: MOST_FLOWS })).filter(isWanted);
        const least = i === 0 ? count : 1; // the second node has no flows between containers of the first
        return flows.length >= least && flows.every(({ lane }) => (lane === "both") === inLane);
      },
      { what: `the flows from port ${firstPort} to be ${inLane ? "" : "not "}in ${node.name}'s lane` },
    );
  }
}

interface Outcome {
  arrived: Arrived;
  /** What the kernel did not take from the sender. */
  refused: string[];
}

async function sendAll(forge: Driver): Promise<Outcome> {
  return (await forge.call("sendAll")) as Outcome;
}

/** The cases in which more arrived, or something else. */
function moreThan(before: Arrived, got: Arrived): string[] {
  return Object.entries(got).flatMap(([title, lines]) => {
    const rest = [...before[title]!];
    const more = lines.filter((line) => {
      const at = rest.indexOf(line);
      if (at >= 0) rest.splice(at, 1);
      return at < 0;
    });
    return more.map((line) => `${title}: ${line}`);
  });
}

/** What no lane and no agent may bring anywhere: frames for another network, and VXLAN that a container has made. */
const NOWHERE = /blue|another network|VXLAN in UDP/;

/** Each kind of flow carries its plain packets, and no packet leaves its network. */
function assertOutcome(t: ExecutionContext, { arrived }: Outcome, round: string): void {
  const cases = Object.entries(arrived);
  const plain = cases.filter(([title]) => title.endsWith(": plain"));
  t.is(plain.length, KINDS.length);
  for (const [title, lines] of plain) t.not(lines.length, 0, `${round}: ${title}`);
  const forbidden = cases.filter(([title]) => NOWHERE.test(title));
  t.is(forbidden.length % KINDS.length, 0);
  t.true(forbidden.length > 10 * KINDS.length);
  t.deepEqual(
    forbidden.filter(([, lines]) => lines.length > 0),
    [],
    round,
  );
  t.deepEqual(
    cases.filter(([, lines]) => lines.some((line) => line.startsWith("blue"))),
    [],
    round,
  );
}

const closedTest =
  LACK === undefined ? systemTest : (title: string) => test.serial.skip(`${title} (skipped: ${LACK})`, () => {});

closedTest(
  "whatever a container or a host of the underlay sends arrives where the agents bring it, and nowhere else",
  async (t) => {
    t.log(`seed ${SEED}`);
    const nodes = lab().nodes;
    const forge = await startForge(t);

    await openFlows(forge, FIRST_PORTS.on, true);
    const carried = (await nodes[0]!.api.stats()).datapath.lanePackets!;
    const byLane = await sendAll(forge);
    t.true((await nodes[0]!.api.stats()).datapath.lanePackets! > carried + 100);
    assertOutcome(t, byLane, "with the lane");

    for (const node of nodes) await node.ctl("express", "off");
    await openFlows(forge, FIRST_PORTS.off, false);
    const byAgents = await sendAll(forge);
    assertOutcome(t, byAgents, "without the lane");
    t.deepEqual(byLane.refused, byAgents.refused);
    t.deepEqual(moreThan(byAgents.arrived, byLane.arrived), [], "the lane let through what the agents refuse");
    t.deepEqual(moreThan(byLane.arrived, byAgents.arrived), [], "the lane lost what the agents let through");

    for (const node of nodes) await node.ctl("express", "on");
    await openFlows(forge, FIRST_PORTS.dead, true);
    await Promise.all(nodes.map((node) => node.killAgent()));
    const withoutAgents = await sendAll(forge);
    assertOutcome(t, withoutAgents, "without agents");
    t.deepEqual(
      moreThan(byAgents.arrived, withoutAgents.arrived),
      [],
      "the lane alone let through what the agents refuse",
    );
  },
);
