// How resolvers are written.
import test from "ava";
import { nameserversOf, parseUpstream } from "../../src/dns/upstream.ts";
import { ConfigError } from "../../src/lib/errors.ts";
import { forwarderTo } from "./ask-forwarder.ts";

const resolvers: [string, string | undefined][] = [
  ["192.0.2.53", "192.0.2.53#53"],
  ["192.0.2.53:5353", "192.0.2.53#5353"],
  ["2001:db8::53", "2001:db8::53#53"],
  ["[2001:db8::53]:5353", "2001:db8::53#5353"],
  ["fe80::53%eth0", "fe80::53%eth0#53"],
  ["[fe80::53%eth0]:5353", "fe80::53%eth0#5353"],
  ["2001:db8::53:5353:x", undefined],
  ["[2001:db8::53]", undefined],
  ["192.0.2.53:0", undefined],
  ["192.0.2.53:65536", undefined],
  ["[192.0.2.53]:53", undefined],
  ["dns.example", undefined],
  ["", undefined],
];
for (const [text, expected] of resolvers) {
  test(`'${text}' is ${expected === undefined ? "no resolver" : `the resolver ${expected}`}`, (t) => {
    t.is(parseUpstream(text)?.name, expected);
    if (expected === undefined) {
      const error = t.throws(() => forwarderTo([], { "corp.example": [text] }), { instanceOf: ConfigError });
      t.is(error?.field, "dns.forward.corp.example");
    }
  });
}

test("a resolv.conf gives its name servers in order", (t) => {
  const text =
    "# a comment\nnameserver 192.0.2.1\nsearch example.org\n nameserver 9.9.9.9\nnameserver\tfe80::1%eth0\nnameserver x\n";
  t.deepEqual(nameserversOf(text), ["192.0.2.1", "fe80::1%eth0"]);
});
