// A greedy container beside a well-behaved one: whatever the first one sends, all requests of the second are answered.
import type { StatsView } from "../../src/api/schema.ts";
import { ipv4 } from "../../src/lib/ip.ts";
import { laneOf } from "../fakes/lanes.ts";
import { Background, run, waitFor } from "./command.ts";
import type { LabNode } from "./lab.ts";
import { addressOf, namespaceOf, networkOf, runningTasks, vipOf } from "./listings.ts";
import { program } from "./program.ts";
import { systemTest, useLab } from "./system-test.ts";

const REQUESTS = 60;
/** So many that a loss of one in a thousand is seen. */
const PINGS = 2000;
/** Few, so that a flood is over the limit on a slow machine too. */
const settings = { datapath: { newFlowsPerSecond: 2000 } };

const lab = useLab({ prefix: "gre", nodes: 2, settings }, async ({ nodes: [node1, node2] }) => {
  await node1!.ctl("network", "create", "web");
  const create = (name: string, node: LabNode, ...options: string[]) =>
    node1!.ctl(
      ...["service", "create", "--name", name, "--network", "web", "--constraint", `node.name==${node.name}`],
      ...options,
      ...["--", ...program("echo-server", 7)],
    );
  await create("server", node2!);
  await create("greedy", node1!);
  await create("modest", node1!, "--replicas", "3");
});

const heldBack = ({ drops, datapath }: StatsView) => ({
  newFlows: drops["too-many-new-flows"] ?? 0,
  fragments: datapath.displacedFragments ?? 0,
});

for (const [kind, what, counter] of [
  ["syn", "connections to ports without number", "newFlows"],
  ["udp", "datagrams to ports without number", "newFlows"],
  ["fragments", "first fragments alone", "fragments"],
  ["dns", "questions", "newFlows"],
] as const) {
  systemTest(
    `beside a container that floods with ${what}, another has ${REQUESTS} of ${REQUESTS} answers`,
    async (t) => {
      const [node1] = lab().nodes;
      const [greedy] = await runningTasks(node1!, "greedy");
      const [server] = await runningTasks(node1!, "server");
      const { gateway } = await networkOf(node1!, "web");
      const counted = async () => heldBack(await node1!.ctlJson<StatsView>("stats"))[counter];
      const before = await counted();
      const target = kind === "dns" ? gateway : addressOf(server!);
      const flood = new Background([
        ...["ip", "netns", "exec", namespaceOf(greedy!)],
        ...program("flood", kind, addressOf(greedy!), target),
      ]);
      try {
        await flood.says("sent");
        const vip = await vipOf(node1!, "server");
        const { status, stderr } = await node1!.container("web", program("ask", "tcp", vip!, 7, REQUESTS));
        t.is(status, 0, stderr);
        const named = await node1!.container("web", program("ask", "tcp", "server", 7, 1));
        t.is(named.status, 0, named.stderr);
        await waitFor(async () => (await counted()) > before, { what: "what is over the limits to be counted" });
      } finally {
        await flood.end("SIGKILL");
      }
      t.log(
        flood.output.trim().split("\n").at(-1),
        (await node1!.exec(["ip", "-s", "link", "show", "overlay0"])).trim(),
      );
    },
  );
}

systemTest(`beside a container that floods, ${PINGS} of ${PINGS} pings of another are answered`, async (t) => {
  const [node1] = lab().nodes;
  const [greedy] = await runningTasks(node1!, "greedy");
  const [server] = await runningTasks(node1!, "server");
  const lane = laneOf(ipv4(addressOf(greedy!)));
  const modest = (await runningTasks(node1!, "modest")).find((task) => laneOf(ipv4(addressOf(task))) !== lane);
  t.truthy(modest, "a container whose packets come by another lane");
  const overruns = async () => (await node1!.ctlJson<StatsView>("stats")).drops["device-overrun"] ?? 0;
  const before = await overruns();
  const flood = new Background([
    ...["ip", "netns", "exec", namespaceOf(greedy!)],
    ...program("flood", "udp", addressOf(greedy!), addressOf(server!)),
  ]);
  try {
    await flood.says("sent");
    const pings = ["ping", "-q", "-i", "0.002", "-c", String(PINGS), addressOf(server!)];
    const answered = await run(["ip", "netns", "exec", namespaceOf(modest!), ...pings]);
    t.regex(answered, new RegExp(`${PINGS} packets transmitted, ${PINGS} received`));
  } finally {
    await flood.end("SIGKILL");
  }
  t.true((await overruns()) > before, "the flood was more than its lane holds");
});
