// Names of the world, asked by containers: of the configured resolvers and of a domain's own, and while they are away.
import test from "ava";
import type { StatsView } from "../../src/api/schema.ts";
import { Background, dig as digArgv, waitFor } from "./command.ts";
import { CLIENT_ADDRESS, type LabHost } from "./lab.ts";
import { program, systemTest, useLab } from "./system-test.ts";

const WORLD = "203.0.113.1";
const CORP = "203.0.113.2";

const dns = { resolvers: [CLIENT_ADDRESS], forward: { "Corp.Example.": ["[::1]:5353"] } };
const lab = useLab({ prefix: "fwd", nodes: 1, settings: { dns } }, async ({ nodes: [node1], client }) => {
  await node1!.ctl("network", "create", "web");
  world = await startResolver(client, CLIENT_ADDRESS, 53, WORLD);
  corp = await startResolver(node1!, "::1", 5353, CORP);
});
let world: Background | undefined;
let corp: Background | undefined;

test.serial.after.always(() => Promise.all([world, corp].map((resolver) => resolver?.end("SIGTERM"))));

function startResolver(host: LabHost, address: string, port: number, answer: string): Promise<Background> {
  return new Background(host.inside(program("resolver", address, port, answer))).says("ready");
}

async function dig(...words: string[]): Promise<string> {
  const { stdout } = await lab().nodes[0]!.container("web", digArgv(...words));
  return stdout.trim();
}

systemTest("a container's question is answered by the configured resolver, once for all who ask", async (t) => {
  t.is(await dig("+short", "www.example.org", "www.example.org"), `${WORLD}\n${WORLD}`);
  t.deepEqual(
    world!.output.split("\n").filter((line) => line.includes("www.example.org")),
    ["udp www.example.org A"],
  );
});

systemTest(
  "names of a domain with resolvers of its own are asked of those, on their IPv6 address, and of nobody else",
  async (t) => {
    t.is(await dig("+short", "corp.example", "a.b.corp.example", "notcorp.example"), `${CORP}\n${CORP}\n${WORLD}`);
    t.regex(corp!.output, /udp corp\.example A\nudp a\.b\.corp\.example A\n/);
    t.notRegex(world!.output, /[ .]corp\.example/);
  },
);

systemTest("an answer too long for a datagram comes over TCP, from the resolver and to the container", async (t) => {
  t.regex(await dig("+short", "TXT", "long.example.org"), /^("x{250}" ?){20}$/);
  t.regex(await dig("+ignore", "TXT", "long.example.org"), /flags: qr tc rd ra;/);
  t.regex(world!.output, /udp long\.example\.org TXT\ntcp long\.example\.org TXT\n/);
});

systemTest("names that only the overlay has are not asked of the world", async (t) => {
  for (const name of ["nothing", "tasks.nothing", "nothing.1"]) t.regex(await dig(name), /status: NXDOMAIN/, name);
  t.notRegex(world!.output, /nothing/);
});

/** A container that asks for `count` names of `domain` at once. */
function askMany(domain: string, count: number): Background {
  const node = lab().nodes[0]!;
  const words = ["overlayctl", "run", "--network", "web", "--", ...program("ask-many", domain, count)];
  return new Background(node.inside(words), node.env);
}

systemTest("a thousand questions of one container at once are all answered", async (t) => {
  const greedy = askMany("many.example", 1000);
  t.is(await greedy.ended(), 0, greedy.output);
  t.deepEqual(JSON.parse(greedy.output), { NOERROR: 1000 });
});

systemTest(
  "a container with more questions than it may have under way keeps none of another's from an answer",
  async (t) => {
    const dnsStats = async () => (await lab().nodes[0]!.ctlJson<StatsView>("stats")).dns;
    const greedy = askMany("silent.example", 3000);
    await waitFor(async () => (await dnsStats()).waited! > 0, { what: "questions that wait" });
    for (let i = 0; i < 5; i++) t.is(await dig("+short", `modest${i}.example.org`), WORLD);
    await waitFor(async () => (await dnsStats()).limited! > 0, { what: "questions that had no turn" });
    await greedy.end("SIGTERM");
  },
);

systemTest(
  "while the resolver is away old answers are served and new questions fail, and then it is asked again",
  async (t) => {
    await world!.end("SIGTERM");
    const isStale = async () => {
      t.is(await dig("+short", "www.example.org"), WORLD);
      return (await lab().nodes[0]!.ctlJson<StatsView>("stats")).dns.staleAnswers! > 0;
    };
    await waitFor(isStale, { what: "a stale answer" });
    t.regex(await dig("new.example.org"), /status: SERVFAIL/);
    t.is(await dig("+short", "a.corp.example"), CORP);
    world = await startResolver(lab().client, CLIENT_ADDRESS, 53, "203.0.113.3");
    for (const name of ["www.example.org", "new.example.org"]) {
      await waitFor(async () => (await dig("+short", name)) === "203.0.113.3", { what: `${name} to be answered anew` });
    }
  },
);
