// --hostname, --add-host, --dns and so on: what an operator types, and what the request then has.

import test from "ava";
import { Command, InvalidArgumentError } from "commander";
import { host, NAMING_OPTIONS, withoutRoot } from "../../src/cli/naming-options.ts";
import { addRequestOptions, requestOf } from "../../src/cli/request-options.ts";

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

const lines: [line: string, expected: object][] = [
  ["", {}],
  ["--hostname db", { hostname: "db" }],
  [
    "--dns 192.0.2.1 --dns 192.0.2.2 --dns-search a.example --dns-search b.example --dns-option rotate",
    { dns: { servers: ["192.0.2.1", "192.0.2.2"], search: ["a.example", "b.example"], options: ["rotate"] } },
  ],
  ["--dns-search .", { dns: { search: [] } }],
];
for (const [line, expected] of lines) {
  test(`options '${line}'`, (t) => {
    const command = addRequestOptions(new Command(), NAMING_OPTIONS).exitOverride();
    command.parse(line.split(" ").filter(Boolean), { from: "user" });
    t.deepEqual(withoutRoot(requestOf(NAMING_OPTIONS, command.opts())), expected);
  });
}
