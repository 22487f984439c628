// The configuration file: what it becomes, and what a person reads when it is wrong.
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "ava";
import { describeConfigError, loadConfig, parseConfig } from "../../src/agent/config.ts";
import { ConfigError } from "../../src/lib/errors.ts";

const MINIMAL = "node: {name: node1}\ncluster: {listen: 192.0.2.11:2377}\n";

test("a minimal file gets every default", (t) => {
  t.deepEqual(parseConfig(MINIMAL), {
    node: { name: "node1" },
    cluster: { listen: { host: "192.0.2.11", port: 2377 }, managers: [], sessionTimeoutMs: 15_000 },
    vxlan: { port: 4789 },
    pool: "10.192.0.0/10",
    mesh: true,
    nodeServices: true,
    dataDir: "/var/lib/overlayd",
    socket: "/run/overlayd/overlayd.sock",
    device: "overlay0",
    log: { level: "info" },
    datapath: { underlay: "auto", priority: 10, flows: 262_144, newFlowsPerSecond: 20_000 },
    docker: { socket: "/var/run/docker.sock" },
    dns: { forward: {}, domain: "overlay" },
  });
});

test("every field can be set", (t) => {
  const config = parseConfig(`
node: { name: node2, address: 192.0.2.12 }
cluster: { managers: [192.0.2.11, "manager.example:2400"], sessionTimeout: 2m }
vxlan: { port: 8472, mtu: 1400 }
pool: 10.128.0.0/12
mesh: off
nodeServices: off
dataDir: /data
socket: /tmp/o.sock
device: ov0
log: { level: debug }
datapath: { workers: 2, underlay: dgram, spinMicros: 30, priority: 0, flows: 4096, newFlowsPerSecond: 500, flowFile: /dev/shm/flows }
docker: { socket: /tmp/docker.sock }
dns:
  resolvers: [10.0.0.53, "10.0.0.54:5353", "2001:db8::53", "[::1]:5353", "fe80::1%eth0", "fe8::1"]
  forward: { corp.example: [10.0.0.55] }
  domain: Cluster.Example
`);
  t.deepEqual(config, {
    node: { name: "node2", address: "192.0.2.12" },
    cluster: { managers: ["192.0.2.11:2377", "manager.example:2400"], sessionTimeoutMs: 120_000 },
    vxlan: { port: 8472, mtu: 1400 },
    pool: "10.128.0.0/12",
    mesh: false,
    nodeServices: false,
    dataDir: "/data",
    socket: "/tmp/o.sock",
    device: "ov0",
    log: { level: "debug" },
    datapath: {
      ...{ workers: 2, underlay: "dgram", spinMicros: 30, priority: 0, flows: 4096 },
      ...{ newFlowsPerSecond: 500, flowFile: "/dev/shm/flows" },
    },
    docker: { socket: "/tmp/docker.sock" },
    dns: {
      resolvers: ["10.0.0.53", "10.0.0.54:5353", "2001:db8::53", "[::1]:5353", "fe80::1%eth0", "fe8::1"],
      forward: { "corp.example": ["10.0.0.55"] },
      domain: "cluster.example",
    },
  });
});

test("a field with nothing behind it is left out", (t) => {
  t.deepEqual(parseConfig(`${MINIMAL}pool:\ndns:\n  # domain: lan\nvxlan: { mtu: }\n`), parseConfig(MINIMAL));
});

for (const [text, mesh] of [
  ["on", true],
  ["true", true],
  ["off", false],
  ["false", false],
] as const) {
  test(`mesh: ${text} is ${mesh}`, (t) => t.is(parseConfig(`${MINIMAL}mesh: ${text}\n`).mesh, mesh));
}

const mistakes: [name: string, yaml: string, line: number | undefined, says: string | RegExp][] = [
  ["an empty file", "", undefined, /^cluster: missing: neither 'listen' .* nor 'managers' /],
  ["no listen and no managers", "cluster: {}", 1, /^cluster: neither 'listen' .* nor 'managers' /],
  [
    "a misspelt field",
    `cluster:\n  listen: 192.0.2.11:2377\nvxlna: { port: 4789 }`,
    3,
    "vxlna: no such field; did you mean 'vxlan'?",
  ],
  [
    "a misspelt nested field",
    "cluster:\n  listen: 192.0.2.11:2377\n  manager: [192.0.2.11]",
    3,
    "cluster.manager: no such field; did you mean 'managers'?",
  ],
  [
    "a misspelt field that leaves the right one missing",
    "cluster:\n  lisen: 192.0.2.11:2377",
    2,
    "cluster.lisen: no such field; did you mean 'listen'?",
  ],
  ["a field like none", `${MINIMAL}colour: red`, 3, "colour: no such field"],
  [
    "an address that is none",
    "node:\n  name: node1\n  address: 10.0.0.300\ncluster: {listen: 192.0.2.11:2377}",
    3,
    "node.address: '10.0.0.300' is not an IPv4 address",
  ],
  [
    "a node's address inside the pool",
    "node:\n  address: 10.200.0.1\ncluster: {listen: 192.0.2.11:2377}",
    2,
    /^node\.address: '10\.200\.0\.1' is inside the pool/,
  ],
  [
    "a name that ends with an underscore",
    "node: {name: node_}\ncluster: {managers: [a]}",
    1,
    /^node\.name: 'node_': a name has/,
  ],
  ["a port too high", `${MINIMAL}vxlan: { port: 70000 }`, 3, "vxlan.port: '70000': a port is 1 to 65535"],
  ["a priority above the highest", `${MINIMAL}datapath: { priority: 21 }`, 3, "datapath.priority: '21': 0 to 20"],
  ["a priority that is a nice value", `${MINIMAL}datapath: { priority: -5 }`, 3, "datapath.priority: '-5': 0 to 20"],
  [
    "a priority that is a word",
    `${MINIMAL}datapath: { priority: high }`,
    3,
    "datapath.priority: 'high': a number is needed",
  ],
  ["a port that is a word", `${MINIMAL}vxlan: { port: four }`, 3, "vxlan.port: 'four' is not a port number"],
  [
    "an address to advertise of a node that is no manager",
    "cluster: {managers: [192.0.2.11], advertise: 203.0.113.5}",
    1,
    "cluster.advertise: '203.0.113.5': a node without 'listen' is no manager, and has nothing to advertise",
  ],
  [
    "every address as the one to advertise",
    "cluster: {listen: 0.0.0.0, advertise: 0.0.0.0}",
    1,
    "cluster.advertise: '0.0.0.0': nodes cannot reach 0.0.0.0: an address of this manager is needed",
  ],
  ["a listen that is no address", "cluster: {listen: here:2377}", 1, "cluster.listen: 'here' is not an IPv4 address"],
  [
    "a manager without a good port",
    "cluster:\n  managers:\n    - a:1\n    - b:0",
    4,
    /^cluster\.managers\.1: 'b:0' has no/,
  ],
  ["a pool with host bits", `${MINIMAL}pool: 10.192.0.1/10`, 3, /^pool: '10\.192\.0\.1\/10' is not an IPv4 prefix/],
  ["a pool too small", `${MINIMAL}pool: 10.0.0.0/24`, 3, /^pool: .*a pool is \/19 or larger/],
  ["a pool of loopback", `${MINIMAL}pool: 127.0.0.0/8`, 3, /^pool: '127\.0\.0\.0\/8' holds loopback/],
  [
    "a word of a list, misspelt",
    `${MINIMAL}datapath: { underlay: batch }`,
    3,
    "datapath.underlay: 'batch' is not one of auto, batched, dgram; did you mean 'batched'?",
  ],
  ["a mesh that is neither", `${MINIMAL}mesh: maybe`, 3, "mesh: 'maybe': on or off is needed"],
  [
    "a duration without unit",
    "cluster: {listen: 192.0.2.1:1, sessionTimeout: 15}",
    1,
    /^cluster\.sessionTimeout: '15': a duration/,
  ],
  [
    "a duration too short",
    "cluster: {listen: 192.0.2.1:1, sessionTimeout: 10ms}",
    1,
    /sessionTimeout: '10ms': at least 1s/,
  ],
  ["a relative path", `${MINIMAL}dataDir: data`, 3, "dataDir: 'data': an absolute path is needed"],
  ["a socket path too long", `${MINIMAL}socket: /${"x".repeat(107)}`, 3, /^socket: .*at most 107 bytes/],
  ["a device name too long", `${MINIMAL}device: overlay-device-0`, 3, /^device: .*1 to 15 letters/],
  ["a resolver that is a name", `${MINIMAL}dns: { resolvers: [one.example] }`, 3, /^dns\.resolvers\.0: .*ADDRESS/],
  [
    "a resolver's port that is none",
    `${MINIMAL}dns: { resolvers: ["[::1]:0"] }`,
    3,
    /^dns\.resolvers\.0: .*\[IPV6\]:PORT/,
  ],
  [
    "a resolver that is everybody",
    `${MINIMAL}dns: { resolvers: ["0.0.0.0"] }`,
    3,
    /^dns\.resolvers\.0: .*no one host's/,
  ],
  [
    "a resolver that is a group",
    `${MINIMAL}dns: { resolvers: ["[ff02::fb]:5353"] }`,
    3,
    /^dns\.resolvers\.0: .*no one host's/,
  ],
  [
    "a gateway in another form",
    `${MINIMAL}dns: { resolvers: ["::ffff:10.192.0.1"] }`,
    3,
    /^dns\.resolvers\.0: .*IPv6's form/,
  ],
  ["a resolver on no link", `${MINIMAL}dns: { resolvers: ["fe80::53"] }`, 3, /^dns\.resolvers\.0: .*needs its link/],
  ["a domain with an underscore", `${MINIMAL}dns: { domain: my_net }`, 3, /^dns\.domain: .*a domain is labels/],
  ["a domain that ends in a number", `${MINIMAL}dns: { domain: a.1 }`, 3, /^dns\.domain: .*a domain is labels/],
  [
    "a domain with a meaning of its own",
    `${MINIMAL}dns: { domain: Localhost }`,
    3,
    /^dns\.domain: .*meaning of its own/,
  ],
  [
    "a list written as one value",
    `${MINIMAL}dns: { resolvers: 10.0.0.53 }`,
    3,
    "dns.resolvers: '10.0.0.53': a list is needed",
  ],
  ["a list of keys", `${MINIMAL}dns: { forward: [lan] }`, 3, "dns.forward: keys with values are needed"],
  ["a section that is a word", `${MINIMAL}dns: off`, 3, "dns: 'off': fields with values are needed"],
  ["a number where a name is", "node: {name: 1}\ncluster: {managers: [a]}", 1, /^node\.name: '1': text is needed/],
  [
    "a part of a thread",
    `${MINIMAL}datapath: { workers: 1.5 }`,
    3,
    "datapath.workers: '1.5': a whole number is needed",
  ],
  ["too many threads", `${MINIMAL}datapath: { workers: 17 }`, 3, "datapath.workers: '17': 1 to 16 threads"],
  [
    "a domain with nothing behind it",
    `${MINIMAL}dns: { forward: { lan: } }`,
    3,
    "dns.forward.lan: missing: a list is needed",
  ],
  ["a misspelt field with nothing behind it", `${MINIMAL}dsn:`, 3, "dsn: no such field; did you mean 'dns'?"],
  ["a field of every object's", `${MINIMAL}constructor:`, 3, "constructor: no such field"],
  ["YAML that is broken", "node: {name: node1\ncluster: [", 2, /^YAML: /],
  ["a key twice", `${MINIMAL}pool: 10.0.0.0/8\npool: 10.0.0.0/9`, 4, /^YAML: .*unique/],
  ["a file that is a list", "- a\n- b", 1, /^file: /],
];
for (const [name, yaml, line, says] of mistakes) {
  test(`refused with its place: ${name}`, (t) => {
    const error = t.throws(() => parseConfig(yaml), { instanceOf: ConfigError })!;
    if (typeof says === "string") t.is(error.message, says);
    else t.regex(error.message, says);
    t.is(error.line, line);
  });
}

test("the message begins with file and line", (t) => {
  const directory = mkdtempSync(join(tmpdir(), "overlayd-config-"));
  t.teardown(() => rmSync(directory, { recursive: true }));
  const path = join(directory, "node.yaml");
  writeFileSync(path, `${MINIMAL}vxlan: { port: 0 }\n`);
  const error = t.throws(() => loadConfig(path), { instanceOf: ConfigError })!;
  t.is(describeConfigError(path, error), `${path}:3: vxlan.port: '0': a port is 1 to 65535`);
});

test("a file that cannot be read is said to be so", (t) => {
  const error = t.throws(() => loadConfig("/nonexistent/node.yaml"), { instanceOf: ConfigError })!;
  t.regex(
    describeConfigError("/nonexistent/node.yaml", error),
    /^\/nonexistent\/node\.yaml: --config: cannot read .*ENOENT/,
  );
});
