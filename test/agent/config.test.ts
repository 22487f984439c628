// The configuration file: what it becomes, and what a person reads when it is wrong.
import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import test from "ava";
import { describeConfigError, loadConfig, parseConfig } from "../../src/agent/config.ts";
import { ConfigError } from "../../src/lib/errors.ts";
import { temporaryDirectory } from "../temporary.ts";

const MINIMAL = "node: {name: node1}\nmesh: on\n";

test("a minimal file gets every default", (t) => {
  t.deepEqual(parseConfig(MINIMAL), {
    node: { name: "node1" },
    cluster: { etcd: { binary: "etcd", port: 2378 } },
    vxlan: { port: 4789, sealedPort: 4500, keyPort: 4789 },
    mesh: true,
    nodeServices: true,
    dataDir: "/var/lib/overlayd",
    socket: "/run/overlayd/overlayd.sock",
    device: "overlay0",
    log: { level: "info" },
    datapath: { underlay: "auto", priority: 10, flows: 262_144, express: "auto", newFlowsPerSecond: 20_000 },
    docker: { socket: "/var/run/docker.sock" },
    dns: { forward: {} },
  });
});

test("every field can be set", (t) => {
  const config = parseConfig(`
node: { name: node2, address: 192.0.2.12 }
cluster:
  listen: 0.0.0.0:2400
  advertise: 203.0.113.5
  join: { address: manager.example, tokenFile: /run/token }
  passphrase: { file: /run/passphrase }
  etcd: { binary: /opt/etcd, port: 2478, endpoints: ["10.0.0.1:2379"], ca: /tls/ca, certificate: /tls/crt, key: /tls/key }
vxlan: { port: 8472, sealedPort: 4501, keyPort: 4790, mtu: 1400 }
mesh: off
nodeServices: off
dataDir: /data
socket: /tmp/o.sock
device: ov0
log: { level: debug }
datapath: { workers: 2, underlay: dgram, spinMicros: 30, priority: 0, flows: 4096, express: auto, expressFlows: 2048, newFlowsPerSecond: 500, flowFile: /dev/shm/flows }
docker: { socket: /tmp/docker.sock }
dns:
  resolvers: [10.0.0.53, "10.0.0.54:5353", "2001:db8::53", "[::1]:5353", "fe80::1%eth0", "fe8::1"]
  forward: { corp.example: [10.0.0.55] }
`);
  t.deepEqual(config, {
    node: { name: "node2", address: "192.0.2.12" },
    cluster: {
      listen: { host: "0.0.0.0", port: 2400 },
      advertise: { host: "203.0.113.5", port: 2377 },
      join: { address: "manager.example:2377", tokenFile: "/run/token" },
      passphrase: { file: "/run/passphrase" },
      etcd: {
        binary: "/opt/etcd",
        port: 2478,
        endpoints: ["10.0.0.1:2379"],
        ca: "/tls/ca",
        certificate: "/tls/crt",
        key: "/tls/key",
      },
    },
    vxlan: { port: 8472, sealedPort: 4501, keyPort: 4790, mtu: 1400 },
    mesh: false,
    nodeServices: false,
    dataDir: "/data",
    socket: "/tmp/o.sock",
    device: "ov0",
    log: { level: "debug" },
    datapath: {
      ...{
        workers: 2,
        underlay: "dgram",
        spinMicros: 30,
        priority: 0,
        flows: 4096,
        express: "auto",
        expressFlows: 2048,
      },
      ...{ newFlowsPerSecond: 500, flowFile: "/dev/shm/flows" },
    },
    docker: { socket: "/tmp/docker.sock" },
    dns: {
      resolvers: ["10.0.0.53", "10.0.0.54:5353", "2001:db8::53", "[::1]:5353", "fe80::1%eth0", "fe8::1"],
      forward: { "corp.example": ["10.0.0.55"] },
    },
  });
});

test("a field with nothing behind it is left out", (t) => {
  t.deepEqual(
    parseConfig(`${MINIMAL}cluster:\n  # listen: 192.0.2.11\ndns:\n  # forward: {}\nvxlan: { mtu: }\n`),
    parseConfig(MINIMAL),
  );
});

for (const [text, mesh] of [
  ["on", true],
  ["true", true],
  ["off", false],
  ["false", false],
] as const) {
  test(`mesh: ${text} is ${mesh}`, (t) => t.is(parseConfig(`mesh: ${text}\n`).mesh, mesh));
}

const mistakes: [name: string, yaml: string, line: number | undefined, says: string | RegExp][] = [
  [
    "one port for clear and sealed packets",
    "vxlan:\n  port: 4500",
    2,
    "vxlan.port: '4500': packets that are encrypted come to that port, 'vxlan.sealedPort': two ports are needed",
  ],
  [
    "the store's port for keys",
    "vxlan:\n  keyPort: 2380",
    2,
    "vxlan.keyPort: '2380': TCP 2380 is for the store of several managers",
  ],
  [
    "the pool of earlier versions",
    `${MINIMAL}pool: 10.64.0.0/16`,
    3,
    "pool: the pool belongs to the cluster now: remove this line, and give it to the first manager with 'overlayctl init --pool'",
  ],
  [
    "the managers of earlier versions",
    "cluster:\n  managers: [192.0.2.11]",
    2,
    /^cluster\.managers: a node is told where managers are when it joins: remove this line, and run 'overlayctl join ADDRESS --token T'/,
  ],
  [
    "the session timeout of earlier versions",
    "cluster: {sessionTimeout: 30s}",
    1,
    /^cluster\.sessionTimeout: the timeout belongs to the cluster now: .*'overlayctl init --session-timeout'$/,
  ],
  [
    "the domain of earlier versions",
    `${MINIMAL}dns: { domain: lan }`,
    3,
    /^dns\.domain: the domain belongs to the cluster now: .*'overlayctl init --domain'$/,
  ],
  [
    "a misspelt field",
    `cluster:\n  listen: 192.0.2.11:2377\nvxlna: { port: 4789 }`,
    3,
    "vxlna: no such field; did you mean 'vxlan'?",
  ],
  [
    "a misspelt nested field",
    "cluster:\n  listen: 192.0.2.11:2377\n  advertize: 192.0.2.11",
    3,
    "cluster.advertize: no such field; did you mean 'advertise'?",
  ],
  [
    "a misspelt field that leaves the right one missing",
    "cluster:\n  join:\n    address: 192.0.2.11\n    tokenfile: /run/token",
    4,
    "cluster.join.tokenfile: no such field; did you mean 'tokenFile'?",
  ],
  ["a field like none", `${MINIMAL}colour: red`, 3, "colour: no such field"],
  [
    "an address that is none",
    "node:\n  name: node1\n  address: 10.0.0.300\ncluster: {listen: 192.0.2.11:2377}",
    3,
    "node.address: '10.0.0.300' is not an IPv4 address",
  ],
  ["a name that ends with an underscore", "node: {name: node_}\nmesh: on", 1, /^node\.name: 'node_': a name has/],
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
    "every address as the one to advertise",
    "cluster: {listen: 0.0.0.0, advertise: 0.0.0.0}",
    1,
    "cluster.advertise: '0.0.0.0': nodes cannot reach 0.0.0.0: an address of this manager is needed",
  ],
  ["a listen that is no address", "cluster: {listen: here:2377}", 1, "cluster.listen: 'here' is not an IPv4 address"],
  [
    "a manager without a good port",
    "cluster:\n  join:\n    address: b:0\n    tokenFile: /run/token",
    3,
    /^cluster\.join\.address: 'b:0' has no/,
  ],
  [
    "a join without a token",
    "cluster:\n  join: { address: 192.0.2.11 }",
    2,
    "cluster.join.tokenFile: missing: text is needed, in quotes if it looks like something else",
  ],
  [
    "a word of a list, misspelt",
    `${MINIMAL}datapath: { underlay: batch }`,
    3,
    "datapath.underlay: 'batch' is not one of auto, batched, dgram; did you mean 'batched'?",
  ],
  ["a mesh that is neither", "mesh: maybe", 1, "mesh: 'maybe': on or off is needed"],
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
  [
    "a list written as one value",
    `${MINIMAL}dns: { resolvers: 10.0.0.53 }`,
    3,
    "dns.resolvers: '10.0.0.53': a list is needed",
  ],
  ["a list of keys", `${MINIMAL}dns: { forward: [lan] }`, 3, "dns.forward: keys with values are needed"],
  ["a section that is a word", `${MINIMAL}dns: off`, 3, "dns: 'off': fields with values are needed"],
  ["a number where a name is", "node: {name: 1}\nmesh: on", 1, /^node\.name: '1': text is needed/],
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
  ["a key twice", `${MINIMAL}device: ov0\ndevice: ov1`, 4, /^YAML: .*unique/],
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
  const directory = temporaryDirectory("config");
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
