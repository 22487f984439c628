// The options for a container's hostname, hosts and resolv.conf.
import test from "ava";
import { fillIn, Naming, type NamingInput } from "../../src/cluster/naming.ts";

const many = <T>(count: number, one: (i: number) => T) => Array.from({ length: count }, (_, i) => one(i));
const rows: [title: string, naming: NamingInput, fault: RegExp | undefined][] = [
  ["nothing", {}, undefined],
  ["a hostname", { hostname: "db-1.corp_x" }, undefined],
  ["placeholders", { hostname: "{{.Service.Name}}-{{ .Task.Slot }}.{{.Node.Hostname}}" }, undefined],
  ["a hostname of 63 characters", { hostname: "a".repeat(63) }, undefined],
  ["a hostname of 64", { hostname: "a".repeat(64) }, /at most 63/],
  ["a hostname with a blank", { hostname: "a b" }, /letters, digits/],
  ["a hostname with a quote", { hostname: "a';reboot" }, /letters, digits/],
  ["an empty hostname", { hostname: "" }, /letters, digits/],
  [
    "a placeholder that is not filled in",
    { hostname: "{{.Service.Labels}}" },
    /'\{\{\.Service\.Labels\}\}' is no placeholder; the placeholders are \{\{\.Node\.Hostname\}\}, /,
  ],
  ["a placeholder of an object's own", { hostname: "{{.constructor.name}}" }, /is no placeholder/],
  ["an open placeholder", { hostname: "a{{.Task.Slot" }, /'\{\{\.Task\.Slot' is no placeholder/],
  ["a function in a placeholder", { hostname: '{{index .Service.Labels "x"}}' }, /is no placeholder/],
  [
    "hosts",
    {
      hosts: [
        { name: "db", address: "192.0.2.1" },
        { name: "db6.x", address: "2001:db8::1" },
      ],
    },
    undefined,
  ],
  ["the gateway", { hosts: [{ name: "host.docker.internal", address: "host-gateway" }] }, undefined],
  ["a host without an address", { hosts: [{ name: "db", address: "db2" }] }, /not an IP address, nor 'host-gateway'/],
  ["a host with a line feed", { hosts: [{ name: "db\n127.0.0.1 x", address: "192.0.2.1" }] }, /not a host's name/],
  ["a host's address with a line feed", { hosts: [{ name: "db", address: "192.0.2.1\n" }] }, /not an IP address/],
  ["101 hosts", { hosts: many(101, (i) => ({ name: `h${i}`, address: "192.0.2.1" })) }, /at most 100 hosts/],
  ["name servers", { dns: { servers: ["192.0.2.53", "2001:db8::53"] } }, undefined],
  ["a name server with a port", { dns: { servers: ["192.0.2.53:53"] } }, /a name server is an IP address/],
  ["a loopback address", { dns: { servers: ["127.0.0.53"] } }, /no name server has this address/],
  ["no address", { dns: { servers: ["0.0.0.0"] } }, /no name server has this address/],
  ["a group's address", { dns: { servers: ["239.1.1.1"] } }, /no name server has this address/],
  ["IPv6's loopback", { dns: { servers: ["::1"] } }, /no name server has this address/],
  ["IPv6's loopback with all its zeros", { dns: { servers: ["0:0:0:0:0:0:0:1"] } }, /no name server has this address/],
  ["IPv6's loopback with one zero", { dns: { servers: ["0::1"] } }, /no name server has this address/],
  [
    "IPv6's loopback, all digits written",
    { dns: { servers: ["0000:0000:0000:0000:0000:0000:0000:0001"] } },
    /no name server has this address/,
  ],
  ["a loopback address in IPv6's form", { dns: { servers: ["::ffff:127.0.0.1"] } }, /no name server has this address/],
  ["a loopback address in hexadecimal", { dns: { servers: ["::ffff:7f00:1"] } }, /no name server has this address/],
  [
    "a loopback address in the form that is no longer used",
    { dns: { servers: ["::7f00:1"] } },
    /no name server has this address/,
  ],
  ["no address of IPv6", { dns: { servers: ["0::0"] } }, /no name server has this address/],
  ["a group's address of IPv6", { dns: { servers: ["FF02::FB"] } }, /no name server has this address/],
  ["a link-local address", { dns: { servers: ["FE80::53"] } }, /no name server has this address/],
  ["the last link-local block", { dns: { servers: ["febf::1"] } }, /no name server has this address/],
  ["another address of the host", { dns: { servers: ["127.255.255.254"] } }, /no name server has this address/],
  ["the broadcast address", { dns: { servers: ["255.255.255.255"] } }, /no name server has this address/],
  ["a loopback address with its link", { dns: { servers: ["::1%lo"] } }, /no link after it/],
  ["an address with its link", { dns: { servers: ["2001:db8::53%eth0"] } }, /no link after it/],
  ["an address that begins as link-local ones do", { dns: { servers: ["fe8::53", "ff::53", "128.0.0.1"] } }, undefined],
  ["nine servers", { dns: { servers: many(9, (i) => `192.0.2.${i}`) } }, /at most 8/],
  ["search domains", { dns: { search: ["corp.example.", "_sub.lab"] } }, undefined],
  ["no search domains", { dns: { search: [] } }, undefined],
  ["the root among others", { dns: { search: ["corp.example", "."] } }, /not a domain; '\.' alone is for none/],
  ["two words", { dns: { search: ["corp.example lab.example"] } }, /not a domain/],
  ["33 search domains", { dns: { search: many(33, (i) => `d${i}.example`) } }, /at most 32/],
  ["options", { dns: { options: ["ndots:2", "rotate", "use-vc"] } }, undefined],
  ["an option with a line feed", { dns: { options: ["rotate\nnameserver 192.0.2.1"] } }, /an option is a word/],
  ["17 options", { dns: { options: many(17, () => "rotate") } }, /at most 16/],
];
for (const [title, naming, fault] of rows) {
  test(`${title}: ${fault === undefined ? "taken" : "refused"}`, (t) => {
    const { error } = Naming.safeParse(naming);
    if (fault === undefined) t.is(error, undefined);
    else t.regex(error?.issues[0]?.message ?? "", fault);
  });
}

test("a search domain is written without its last dot", (t) => {
  t.deepEqual(Naming.parse({ dns: { search: ["corp.example."] } }).dns.search, ["corp.example"]);
});

test("placeholders are filled in, and what is too long is cut to a hostname", (t) => {
  const values = {
    "Node.Hostname": "node1",
    "Node.ID": "n".repeat(25),
    "Service.Name": "stack_web",
    "Service.ID": "s".repeat(25),
    "Task.Name": `stack_web.2.${"t".repeat(25)}`,
    "Task.ID": "t".repeat(25),
    "Task.Slot": "2",
  };
  t.is(fillIn("{{.Service.Name}}-{{ .Task.Slot }}.{{.Node.Hostname}}", values), "stack_web-2.node1");
  t.is(fillIn("{{.Task.Name}}", values), values["Task.Name"]);
  t.is(fillIn("{{.Node.ID}}{{.Service.ID}}-----------.-{{.Task.ID}}", values), "n".repeat(25) + "s".repeat(25));
});
