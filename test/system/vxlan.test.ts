// VXLAN on the wire: a capture decoded by tcpdump, and frames as an express lane sends them.
import { join } from "node:path";
import type { FlowView, StatsView } from "../../src/api/schema.ts";
import { vethName } from "../../src/links/desired.ts";
import { bpfTest } from "../fakes/bpf-test.ts";
import { Background, run, waitFor } from "./command.ts";
import { addressOf, namespaceOf, networkOf, runningTasks } from "./listings.ts";
import { program } from "./program.ts";
import { systemTest, useLab } from "./system-test.ts";

const lab = useLab(
  { prefix: "vxl", nodes: 2, settings: { datapath: { express: "off" } } },
  async ({ nodes: [node1] }) => {
    await node1!.ctl("network", "create", "web");
    await node1!.ctl(
      ...["service", "create", "--name", "echo", "--replicas", "2", "--network", "web"],
      ...["--", ...program("echo-server", 7)],
    );
  },
);

/** What tcpdump says of a frame with a right checksum, and of how many at least. */
const EXPECTED: [pattern: RegExp, count: number][] = [
  [/Flags \[[^\]]*\], cksum 0x[0-9a-f]{4} \(correct\)/, 6],
  [/\[udp sum ok\]/, 6],
  [/ICMP echo request/, 3],
  [/ICMP echo reply/, 3],
];

systemTest(
  "tcpdump decodes our frames as VXLAN with the network's VNI, and every inner checksum is right",
  async (t) => {
    const [node1, node2] = lab().nodes;
    const { vni } = await networkOf(node1!, "web");
    const remote = addressOf((await runningTasks(node1!, "echo")).find(({ node }) => node === node2!.name)!);
    // As a network card sends them: on a virtual link the kernel leaves the checksums of what goes in an express lane unfinished.
    const finish = (tx: "on" | "off") =>
      Promise.all([node1!, node2!].map((node) => node.exec(["ethtool", "-K", "eth0", "tx", tx])));
    await finish("off");
    t.teardown(() => finish("on"));
    const file = join(lab().directory, "capture.pcap");
    const tcpdump = ["tcpdump", "-i", "eth0", "--immediate-mode", "-U", "-w", file, "udp", "port", "4789"];
    const capture = new Background(node2!.inside(tcpdump));
    await capture.says("listening on");
    for (const argv of [
      program("ask", "tcp", remote, 7, 3),
      program("ask", "udp", remote, 7, 3),
      ["ping", "-c3", "-i0.2", remote],
      program("ask", "tcp", "echo", 7, 4),
    ]) {
      t.is((await node1!.container("web", argv)).status, 0);
    }
    // Frames of our network only: the management VNI carries probes.
    const captured = async (): Promise<string[]> =>
      (await run(["tcpdump", "-r", file, "-nn", "-vvv"]))
        .split(/\n(?=\d\d:\d\d:\d\d\.)/)
        .filter((frame) => frame.includes(`VXLAN, flags [I] (0x08), vni ${vni}`))
        .map((frame) => frame.slice(frame.indexOf("VXLAN")));
    const isWhole = (inner: string[]): boolean =>
      EXPECTED.every(([pattern, count]) => inner.filter((frame) => pattern.test(frame)).length >= count);
    const inner = await waitFor(async () => [await captured()].find(isWhole), {
      what: "the capture to have TCP, UDP and ICMP, with right checksums",
    });
    await capture.end("SIGINT");
    for (const frame of inner) t.notRegex(frame, /incorrect|bad (udp )?cksum|wrong icmp cksum/);
  },
);

// An express lane at the sender's end alone: frames as the lane sends them come to an agent whose lane does not have the flow.

const ON = { tx: "on", tso: "on", gso: "on" };
const WAYS: [name: string, features: Record<string, string>, outerChecksum: 0 | 1][] = [
  ["super-packets, and checksums that are partial", ON, 0],
  ["super-packets, and an outer checksum where there can be one", ON, 1],
  ["segments whose checksums are partial", { ...ON, tso: "off", gso: "off" }, 0],
  ["segments that are finished, without an outer checksum", { tx: "off", tso: "off", gso: "off" }, 0],
];

bpfTest("an express lane at the sender's end alone: the flow goes on, into the lane and out of it", async (t) => {
  const [node1, node2] = lab().nodes;
  const { vni } = await networkOf(node1!, "web");
  const tasks = await runningTasks(node1!, "echo");
  const [near, far] = [node1!, node2!].map(({ name }) => tasks.find(({ node }) => node === name)!);
  const [source, destination] = [addressOf(near!), addressOf(far!)];
  const talk = program("talk", destination, 7, 300_000);
  const client = new Background(["ip", "netns", "exec", namespaceOf(near!), ...talk]);
  await client.says("talking");
  const flows = await node1!.ctlJson<FlowView[]>("flows", "--endpoint", source);
  const flow = flows.find((row) => row.client.startsWith(`${source}:`) && row.destination === `${destination}:7`);
  const sourcePort = flow!.client.split(":")[1]!;

  const answers = () => Number(/.*answers: (\d+)/s.exec(client.output)?.[1]);
  const goesOn = async (where: string) => {
    const before = answers();
    await waitFor(() => answers() >= before + 10, { what: `ten answers ${where}; there were ${before}` });
  };
  for (const [name, features, outerChecksum] of WAYS) {
    await node1!.exec(["ethtool", "-K", "eth0", ...Object.entries(features).flat()]);
    await goesOn("by the agents");
    const ends = [source, destination, sourcePort, 7, node1!.address, node2!.address, vni, outerChecksum];
    const lane = new Background(node1!.inside(program("one-sided-lane", vethName(source), "eth0", ...ends)));
    await lane.says("ready");
    await goesOn(`of ${name}`);
    t.is(await lane.end("SIGTERM"), 0, lane.output);
    const [packets, bytes] = lane.output.split("\n")[1]!.split(" ").map(Number);
    t.log(`${packets} packets, ${bytes} bytes of ${name}`);
    t.true(bytes! > 1_000_000, `${name}: ${lane.output}`);
  }
  t.is(await client.end("SIGTERM"), 0, client.output.slice(-1000));
  const { drops } = await node2!.ctlJson<StatsView>("stats");
  t.deepEqual([drops["bad-transport-checksum"], drops["too-big"], drops["bad-super-packet"]], [0, 0, 0]);
});
