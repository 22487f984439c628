// --hostname, --add-host, --dns and so on: what an operator types, and what the request then has.

import test from "ava";
import { Command, InvalidArgumentError } from "commander";
import { addNamingOptions, host, type NamingOptions, namingOf } from "../../src/cli/naming-options.ts";

const hosts: [text: string, name: string, address: string][] = [
  ["db:192.0.2.1", "db", "192.0.2.1"],
  ["db=192.0.2.1", "db", "192.0.2.1"],
  ["db:2001:db8::1", "db", "2001:db8::1"],
  ["db=[2001:db8::1]", "db", "2001:db8::1"],
  ["db:[::1]", "db", "::1"],
  ["host.docker.internal:host-gateway", "host.docker.internal", "host-gateway"],
];
for (const [text, name, address] of hosts) {
  test(`--add-host ${text}`, (t) => t.deepEqual(host(text), [{ name, address }]));
}
for (const text of ["db", ":192.0.2.1", "db:", "db=", "", "db:[192.0.2.1"]) {
  test(`--add-host '${text}' is refused`, (t) => {
    t.throws(() => host(text), { instanceOf: InvalidArgumentError, message: /HOST:ADDRESS or HOST=ADDRESS/ });
  });
}

const lines: [line: string, expected: ReturnType<typeof namingOf>][] = [
  ["", undefined],
  [
    "--hostname db",
    { hostname: "db", hosts: undefined, dns: { servers: undefined, search: undefined, options: undefined } },
  ],
  [
    "--dns 192.0.2.1 --dns 192.0.2.2 --dns-search a.example --dns-search b.example --dns-option rotate",
    {
      hostname: undefined,
      hosts: undefined,
      dns: { servers: ["192.0.2.1", "192.0.2.2"], search: ["a.example", "b.example"], options: ["rotate"] },
    },
  ],
  [
    "--dns-search .",
    { hostname: undefined, hosts: undefined, dns: { servers: undefined, search: [], options: undefined } },
  ],
];
for (const [line, expected] of lines) {
  test(`options '${line}'`, (t) => {
    const command = addNamingOptions(new Command()).exitOverride();
    command.parse(line.split(" ").filter(Boolean), { from: "user" });
    t.deepEqual(namingOf(command.opts<NamingOptions>()), expected);
  });
}
