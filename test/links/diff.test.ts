// From states of a kernel to the commands that are run: what is right stays, what is not goes.
import test from "ava";
import { PlatformError } from "../../src/lib/errors.ts";
import { cidr, ipv4, macOf } from "../../src/lib/ip.ts";
import { type DesiredLinks, GSO_MAX_BYTES, HOST_GSO_MAX_BYTES, HOST_MAC, vethName } from "../../src/links/desired.ts";
import { diff, firstStepOf } from "../../src/links/diff.ts";
import { containerFacts, desiredSysctls, filterOf, nodeFacts } from "../../src/links/facts.ts";
import type { ActualLinks, Link } from "../../src/links/read.ts";

const POOL = cidr("10.192.0.0/10");
const WEB = { address: "10.192.16.5", subnet: cidr("10.192.16.0/20"), netns: "a", ifname: "eth0", mtu: 1450 };
const DB = { address: "10.192.32.7", subnet: cidr("10.192.32.0/20"), netns: "a", ifname: "eth1", mtu: 1450 };
const DESIRED: DesiredLinks = {
  device: "overlay0",
  mtu: 1450,
  pool: POOL,
  ingressAddress: "10.192.0.2",
  gateways: ["10.192.16.1"],
  endpoints: [WEB],
  held: [],
};
const VETH = vethName(WEB.address);

function link(overrides: Partial<Link>): Link {
  const shape = { mtu: 1450, up: true, carrier: true, gsoMaxBytes: HOST_GSO_MAX_BYTES };
  return {
    ifindex: 1,
    kind: "veth",
    mac: HOST_MAC,
    peerIndex: undefined,
    adoptable: false,
    isRoots: false,
    ...shape,
    ...overrides,
  };
}

/** A kernel that is as `desired` says. */
function kernel(desired: DesiredLinks): ActualLinks {
  const { endpoints, device } = desired;
  const hosts = endpoints.map(
    ({ address }, i) => [vethName(address), link({ ifindex: 10 + i, peerIndex: 20 + i })] as const,
  );
  const containers = new Map(
    endpoints.map((endpoint) => {
      const own = endpoints.filter(({ netns }) => netns === endpoint.netns);
      const facts = own.map(containerFacts);
      const links = own.map((one) => {
        const i = endpoints.indexOf(one);
        const mac = macOf(ipv4(one.address));
        return [one.ifname, link({ ifindex: 20 + i, peerIndex: 10 + i, mac, gsoMaxBytes: GSO_MAX_BYTES })] as const;
      });
      const merged = {
        addr: new Map(facts.flatMap(({ addr }) => [...addr])),
        route: new Map(facts.flatMap(({ route }) => [...route])),
        rule: new Map(facts.flatMap(({ rule }) => [...rule])),
        neigh: new Map(facts.flatMap(({ neigh }) => [...neigh])),
      };
      return [endpoint.netns, { links: new Map(links), facts: merged }] as const;
    }),
  );
  return {
    device: link({ kind: "tun", adoptable: true, isRoots: true }),
    veths: new Map(hosts),
    facts: nodeFacts(desired),
    filters: new Map(endpoints.map(({ address }) => [vethName(address), filterOf(address, device)])),
    sysctls: desiredSysctls(desired, true),
    ipv6: true,
    containers,
    printed: undefined,
  };
}

function commands(desired: DesiredLinks, actual: ActualLinks): string[] {
  const { links, device, sysctls, filters, facts, containers } = diff(desired, actual);
  return [
    ...[...links, ...device].map(({ line }) => line),
    ...[...sysctls].map(([path, value]) => `${path}=${value}`),
    ...filters.map(({ line }) => `tc ${line}`),
    ...facts.map(({ line }) => line),
    ...[...containers].flatMap(([netns, steps]) => steps.map(({ line }) => `${netns}: ${line}`)),
  ];
}

test("a kernel that is right is left alone", (t) => {
  t.is(firstStepOf(diff(DESIRED, kernel(DESIRED))), undefined);
  t.is(
    firstStepOf(diff({ ...DESIRED, endpoints: [WEB, DB] }, kernel({ ...DESIRED, endpoints: [WEB, DB] }))),
    undefined,
  );
});

test("a TUN without an owner, which any user may attach to, is made anew", (t) => {
  const device = { ...kernel(DESIRED).device!, isRoots: false };
  t.deepEqual(commands(DESIRED, { ...kernel(DESIRED), device }), [
    "link del overlay0",
    "tuntap add dev overlay0 mode tun multi_queue user 0 group 0",
    `link set dev overlay0 netns ${process.pid}`,
    "link set dev overlay0 mtu 1450 up",
  ]);
});

test("an empty kernel gets everything, each link guarded before it is up", (t) => {
  const empty: ActualLinks = {
    ...kernel({ ...DESIRED, ingressAddress: null, gateways: [], endpoints: [] }),
    device: undefined,
    facts: { addr: new Map(), route: new Map(), rule: new Map(), neigh: new Map() },
    sysctls: new Map(),
    containers: new Map([["a", { links: new Map(), facts: containerFacts({ ...WEB, ifname: "eth9" }) }]]),
  };
  const all = commands(DESIRED, empty);
  t.true(
    all[0]?.startsWith(`link add ${VETH} address ${HOST_MAC} mtu 1450 gso_max_size 65536 type veth peer name eth0`),
  );
  t.is(all[1], "tuntap add dev overlay0 mode tun multi_queue user 0 group 0");
  const up = all.findIndex((line) => line.startsWith(`link set dev ${VETH}`));
  t.true(all.indexOf(`ipv4/conf/${VETH}/rp_filter=1`) < up);
  t.true(all.indexOf(`ipv6/conf/${VETH}/disable_ipv6=1`) < up);
  t.true(all.findIndex((line) => line.startsWith(`tc filter add dev ${VETH}`)) < up);
  for (const line of [
    "route replace 10.192.0.0/10 dev overlay0 scope link src 10.192.0.2",
    "route replace blackhole 10.192.0.0/10 table 4790",
    `route replace 10.192.16.5 dev ${VETH} scope link table 4790`,
    "rule add pref 11 iif overlay0 lookup 4790",
    `neigh replace 10.192.16.5 lladdr 02:42:0a:c0:10:05 dev ${VETH} nud permanent`,
    "a: route replace default via 169.254.1.1 dev eth0",
  ]) {
    t.true(all.includes(line), line);
  }
});

const CHANGES: [title: string, break_: (actual: ActualLinks) => void, expected: string[]][] = [
  ["a rule removed", ({ facts }) => facts.rule.clear(), ["rule add pref 11 iif overlay0 lookup 4790"]],
  [
    "an address removed",
    ({ facts }) => facts.addr.delete("10.192.16.1/32 dev overlay0"),
    ["addr replace 10.192.16.1/32 dev overlay0"],
  ],
  [
    "an address that does not belong",
    ({ facts }) => facts.addr.set("10.9.9.9/32 dev overlay0", "10.9.9.9/32 dev overlay0"),
    ["addr del 10.9.9.9/32 dev overlay0"],
  ],
  [
    "another source on the pool's route",
    ({ facts }) => facts.route.set("10.192.0.0/10 main", "10.192.0.0/10 dev overlay0 scope link src 10.192.0.9"),
    ["route replace 10.192.0.0/10 dev overlay0 scope link src 10.192.0.2"],
  ],
  [
    "a filter removed",
    ({ filters }) => filters.set(VETH, ""),
    [
      `tc qdisc del dev ${VETH} clsact`,
      `tc qdisc add dev ${VETH} clsact`,
      `tc filter add dev ${VETH} ingress protocol ip prio 1 u32 match ip src 10.192.16.5/32 action mirred egress redirect dev overlay0`,
    ],
  ],
  [
    "a setting changed",
    ({ sysctls }) => sysctls.set(`ipv4/conf/${VETH}/rp_filter`, "0"),
    [`ipv4/conf/${VETH}/rp_filter=1`],
  ],
  [
    "a host end put down",
    ({ veths }) => {
      veths.get(VETH)!.up = false;
    },
    [`link set dev ${VETH} address ${HOST_MAC} mtu 1450 gso_max_size 65536 up`],
  ],
  [
    "a container's default route removed",
    ({ containers }) => containers.get("a")!.facts.route.delete("default main"),
    ["a: route replace default via 169.254.1.1 dev eth0"],
  ],
  [
    "a host end of nobody",
    ({ veths, facts }) => {
      veths.set("ovl0ac010ff", link({ ifindex: 99 }));
      facts.neigh.set("x", "10.192.16.255 lladdr 02:42:0a:c0:10:ff dev ovl0ac010ff nud permanent");
    },
    ["link del dev ovl0ac010ff"],
  ],
  ["a container that was not looked into", ({ containers }) => containers.clear(), []],
];
for (const [title, break_, expected] of CHANGES) {
  test(`mends ${title}, and no more`, (t) => {
    const actual = kernel(DESIRED);
    break_(actual);
    t.deepEqual(commands(DESIRED, actual), expected);
  });
}

test("an endpoint whose container is gone is a problem of its own", (t) => {
  const actual = kernel(DESIRED);
  actual.containers.set("a", null);
  const plan = diff(DESIRED, actual);
  t.regex(plan.problems.get(WEB.address)!, /no network namespace 'a'/);
  t.deepEqual(
    plan.links.map(({ line }) => line),
    [`link del dev ${VETH}`],
  );
});

test("a container's own link of the same name is not touched", (t) => {
  const actual = kernel({ ...DESIRED, endpoints: [] });
  actual.containers.set("a", { links: new Map([["eth0", link({ peerIndex: 77 })]]), facts: containerFacts(WEB) });
  const plan = diff(DESIRED, actual);
  t.regex(plan.problems.get(WEB.address)!, /has a link 'eth0' already/);
  t.is(firstStepOf(plan), undefined);
});

test("a far end in another container makes the pair anew", (t) => {
  const actual = kernel(DESIRED);
  actual.containers.get("a")!.links.delete("eth0");
  const all = commands(DESIRED, actual);
  t.is(all[0], `link del dev ${VETH}`);
  t.regex(all[1]!, /^link add/);
});

test("the link of a container that has not been found yet stays, with what belongs to it", (t) => {
  const both = { ...DESIRED, endpoints: [WEB, { ...DB, netns: "b", ifname: "eth0" }] };
  const found = { ...DESIRED, endpoints: [WEB] };
  t.deepEqual(commands({ ...found, held: [WEB.address, DB.address] }, kernel(both)), []);
  t.deepEqual(commands({ ...found, held: "all" }, kernel(both)), []);
  t.deepEqual(commands(found, kernel(both)), [`link del dev ${vethName(DB.address)}`]);
});

test("before the cluster has said what it wants nothing is removed", (t) => {
  const actual = kernel({ ...DESIRED, gateways: ["10.192.16.1", "10.192.32.1"] });
  actual.facts.route.set("10.199.0.1 4790", "10.199.0.1 dev lo table 4790");
  t.deepEqual(commands({ ...DESIRED, held: "all" }, actual), []);
  t.is(commands(DESIRED, actual).length, 2);
});

test("a held link gives way to one that needs its place", (t) => {
  const actual = kernel(DESIRED);
  const moved = { ...WEB, address: "10.192.16.6" };
  const [first, second] = commands({ ...DESIRED, endpoints: [moved], held: "all" }, actual);
  t.is(first, `link del dev ${VETH}`);
  t.regex(second!, new RegExp(`^link add ${vethName(moved.address)} `));
});

test("a second network carries its own subnet and its own replies", (t) => {
  const { route, rule } = containerFacts(DB);
  t.deepEqual(
    [...route.values(), ...rule.values()],
    [
      "10.192.32.0/20 via 169.254.1.1 dev eth1 src 10.192.32.7 onlink",
      "default via 169.254.1.1 dev eth1 onlink table 101",
      "pref 101 from 10.192.32.7 lookup 101",
    ],
  );
});

test("a device of the TUN's name that is none is refused, with the command that removes it", (t) => {
  const actual = { ...kernel(DESIRED), device: link({ kind: "bridge" }) };
  const error = t.throws(() => diff(DESIRED, actual), { instanceOf: PlatformError });
  t.is(error?.mend, "ip link del overlay0");
});
