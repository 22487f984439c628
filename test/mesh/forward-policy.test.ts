// What is asked of iptables, by what it says that there is.
import test from "ava";
import { PlatformError } from "../../src/lib/errors.ts";
import { silentLog } from "../../src/lib/log.ts";
import { ForwardPolicy } from "../../src/mesh/forward-policy.ts";

const DOCKER = [
  "-P INPUT ACCEPT",
  "-P FORWARD DROP",
  "-P OUTPUT ACCEPT",
  "-N DOCKER-USER",
  "-A FORWARD -j DOCKER-USER",
];
const OURS = ["-A DOCKER-USER -i overlay0 -j ACCEPT", "-A DOCKER-USER -o overlay0 -j ACCEPT"];

interface Row {
  title: string;
  rules: string[];
  opened: string[];
  closed: string[];
}

const rows: Row[] = [
  {
    title: "with Docker the chain that it leaves to others is used",
    rules: DOCKER,
    opened: ["-I DOCKER-USER -i overlay0 -j ACCEPT", "-I DOCKER-USER -o overlay0 -j ACCEPT"],
    closed: [],
  },
  {
    title: "what is there is not made again, and is taken back",
    rules: [...DOCKER, ...OURS],
    opened: [],
    closed: ["-D DOCKER-USER -i overlay0 -j ACCEPT", "-D DOCKER-USER -o overlay0 -j ACCEPT"],
  },
  {
    title: "one that is missing is made",
    rules: [...DOCKER, OURS[1]!],
    opened: ["-I DOCKER-USER -i overlay0 -j ACCEPT"],
    closed: ["-D DOCKER-USER -o overlay0 -j ACCEPT"],
  },
  {
    title: "a policy that drops without Docker is passed as well",
    rules: ["-P FORWARD DROP"],
    opened: ["-I FORWARD -i overlay0 -j ACCEPT", "-I FORWARD -o overlay0 -j ACCEPT"],
    closed: [],
  },
  {
    title: "a last rule that refuses everything is passed as well",
    rules: ["-P FORWARD ACCEPT", "-A FORWARD -j REJECT --reject-with icmp-host-prohibited"],
    opened: ["-I FORWARD -i overlay0 -j ACCEPT", "-I FORWARD -o overlay0 -j ACCEPT"],
    closed: [],
  },
  { title: "a node that drops nothing is left alone", rules: ["-P FORWARD ACCEPT"], opened: [], closed: [] },
];

for (const { title, rules, opened, closed } of rows) {
  test(title, async (t) => {
    const calls: string[] = [];
    const iptables = async (argv: readonly string[]): Promise<string> => {
      if (argv[0] === "-S") return `${rules.join("\n")}\n`;
      calls.push(argv.join(" "));
      return "";
    };
    const policy = new ForwardPolicy({ log: silentLog, device: "overlay0", iptables });
    await policy.open({ hasDocker: true });
    t.deepEqual(calls.splice(0), opened);
    await policy.close();
    t.deepEqual(calls, closed);
  });
}

test("without iptables nothing is done, and on a node with Docker that is told, once", async (t) => {
  const iptables = async (): Promise<string> => {
    throw new PlatformError("'iptables' is not installed", "apt-get install iptables");
  };
  const warnings: string[] = [];
  const log = { ...silentLog, warn: (message: string) => void warnings.push(message) };
  const policy = new ForwardPolicy({ log, device: "overlay0", iptables });
  await policy.open({ hasDocker: false });
  t.deepEqual(warnings, []);
  await policy.open({ hasDocker: true });
  await policy.open({ hasDocker: true });
  t.is(warnings.length, 1);
  t.regex(warnings[0]!, /iptables -I DOCKER-USER -i overlay0 -j ACCEPT/);
  await t.notThrowsAsync(policy.close());
});
