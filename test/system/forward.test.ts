// Names of the world, asked by containers: of the configured resolvers and of a domain's own, and while they are away.
import test from "ava";
import type { StatsView } from "../../src/api/schema.ts";
import { Background, dig as digArgv, waitFor } from "./command.ts";
import { CLIENT_ADDRESS, type LabHost, OUTSIDE_ADDRESS } from "./lab.ts";
import { program } from "./program.ts";
import { systemTest, useLab } from "./system-test.ts";

const WORLD = "203.0.113.1";
const CORP = "203.0.113.2";
const OTHER = "203.0.113.9";

const dns = { resolvers: [CLIENT_ADDRESS], forward: { "Corp.Example.": ["[::1]:5353"] } };
const lab = useLab({ prefix: "fwd", nodes: 1, settings: { dns } }, async ({ nodes: [node1], client }) => {
  await node1!.ctl("network", "create", "web");
  world = await startResolver(client, CLIENT_ADDRESS, 53, WORLD);
  corp = await startResolver(node1!, "::1", 5353, CORP);
  other = await startResolver(client, OUTSIDE_ADDRESS, 53, OTHER);
});
let world: Background | undefined;
let corp: Background | undefined;
let other: Background | undefined;

test.serial.after.always(() => Promise.all([world, corp, other].map((resolver) => resolver?.end("SIGTERM"))));

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

systemTest(
  "a container with --dns has others' names from there, also of domains with resolvers, and services from the overlay",
  async (t) => {
    const node = lab().nodes[0]!;
    await node.ctl(
      "service",
      "create",
      "--name",
      "stack_web",
      "--network",
      "name=web,alias=db.corp.example",
      "--",
      "sleep",
      "1000",
    );
    const { vip } = (await node.ctlJson<{ networks: { vip: string }[] }[]>("service", "inspect", "stack_web"))[0]!
      .networks[0]!;
    const names = ["www.example.org", "a.corp.example", "stack_web", "db.corp.example"];
    const run = (...options: string[]) =>
      node.exec(["overlayctl", "run", "--network", "web", ...options, "--", "dig", "+short", "+time=5", ...names]);
    t.is(await run("--dns", OUTSIDE_ADDRESS), `${OTHER}\n${OTHER}\n${vip}\n${vip}\n`);
    t.is(await run(), `${WORLD}\n${CORP}\n${vip}\n${vip}\n`);
    t.notRegex(other!.output, /stack_web/);
  },
);

systemTest("names are found in every way that programs ask for them", async (t) => {
  const ask = async (name: string, ...options: string[]) => {
    const words = ["run", "--network", "web", ...options, "--", "getent", "ahostsv4", name];
    return (await lab().nodes[0]!.ctl(...words)).split(/\s/)[0];
  };
  const vip = await ask("stack_web");
  t.regex(vip!, /^10\./);
  for (const name of ["stack_web.web", "STACK_web.web.overlay", "db.corp.example", "db.corp.example.web.overlay"]) {
    t.is(await ask(name), vip, name);
  }
  // The client tries the name under search domains first, the overlay's own before others. The resolver outside has all names.
  t.is(await ask("stack_web", "--dns-option", "ndots:5", "--dns-search", "corp.example"), vip);
  t.is(await ask("elsewhere", "--dns-search", "corp.example"), CORP);
});

systemTest("a task has the name, hosts and search domains that its service was created with", async (t) => {
  const node = lab().nodes[0]!;
  const script =
    "hostname; cat /etc/resolv.conf; getent hosts gate legacy; dig +short www.example.org; echo end; sleep 1000";
  const naming =
    "--hostname {{.Service.Name}}-{{.Task.Slot}}.{{.Node.Hostname}} --add-host gate=host-gateway --host legacy:192.0.2.7";
  const dnsOptions = `--dns ${OUTSIDE_ADDRESS} --dns-search lab.example --dns-option rotate`;
  const words = `service create --name named --network web ${naming} ${dnsOptions} --`.split(" ");
  await node.ctl(...words, "sh", "-c", script);
  const output = await waitFor(
    async () => {
      const text = (await node.ctl("service", "logs", "named")).replace(/^named\.1@fwdn1 +\| /gm, "");
      return text.includes("end\n") && text;
    },
    { what: "what the task says" },
  );
  const { gateway } = (await node.ctlJson<{ gateway: string }[]>("network", "inspect", "web"))[0]!;
  t.is(
    output.replace(/ +/g, " "),
    `named-1.fwdn1\nnameserver ${gateway}\nsearch web.overlay lab.example\noptions rotate ndots:0\n${gateway} gate\n192.0.2.7 legacy\n${OTHER}\nend\n`,
  );
  await node.ctl("service", "rm", "named");
});

systemTest("what cannot be a hostname, a host or a name server is refused in the words of the options", async (t) => {
  const rows: [options: string, fault: RegExp][] = [
    ["--hostname {{.Service.Labels}}", /--hostname: '\{\{\.Service\.Labels\}\}' is no placeholder/],
    ["--add-host db", /--add-host.*write HOST:ADDRESS or HOST=ADDRESS/s],
    ["--add-host db:db2", /--add-host: .*not an IP address, nor 'host-gateway'/],
    ["--dns 127.0.0.1", /--dns: no name server has this address/],
    ["--dns-search a..b", /--dns-search: not a domain/],
    ["--dns-option nd\nots", /--dns-option: an option is a word/],
  ];
  for (const [options, fault] of rows) {
    for (const command of ["run --network web", "service create --name bad --network web"]) {
      const words = [...command.split(" "), ...options.split(" "), "--", "true"];
      const { status, stderr } = await lab().nodes[0]!.tryExec(["overlayctl", ...words]);
      t.not(status, 0, options);
      t.regex(stderr, fault);
    }
  }
});

/** A container that asks for `count` names of `domain` at once. */
function askMany(domain: string, count: number): Background {
  const node = lab().nodes[0]!;
  const words = ["overlayctl", "run", "--network", "web", "--", ...program("ask-many", domain, count)];
  return new Background(node.inside(words), node.env);
}

/** Datagrams for which the receive buffers of the node's DNS sockets had no room: the last column of proc_net_udp(5). */
async function lostQuestions(): Promise<number> {
  const lines = (await lab().nodes[0]!.exec(["cat", "/proc/net/udp"])).trim().split("\n").slice(1);
  const dns = lines.map((line) => line.trim().split(/\s+/)).filter(([, local]) => local!.endsWith(":0035"));
  return dns.reduce((sum, columns) => sum + Number(columns.at(-1)), 0);
}

systemTest(
  "a thousand questions of one container at once are all answered, and none is lost in a socket",
  async (t) => {
    const greedy = askMany("many.example", 1000);
    t.is(await greedy.ended(), 0, greedy.output);
    t.deepEqual(JSON.parse(greedy.output), { NOERROR: 1000 });
    t.is(await lostQuestions(), 0);
  },
);

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
