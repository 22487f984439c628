// The configuration's `dns.forward`: which domains it takes, and what a person reads of the others.
import test from "ava";
import { parseConfig } from "../../src/agent/config.ts";
import { ownAmong } from "../../src/agent/dns-section.ts";
import { ConfigError } from "../../src/lib/errors.ts";

function parse(forward: Record<string, string[]>) {
  return parseConfig(`mesh: on\ndns: ${JSON.stringify({ forward })}\n`).dns.forward;
}

const RESOLVERS = ["10.0.0.53", "[2001:db8::53]:5353"];

const taken: [key: string, domain: string][] = [
  ["corp", "corp"],
  ["Corp.Example.", "corp.example"],
  ["_msdcs.ad_1.example", "_msdcs.ad_1.example"],
  ["10.in-addr.arpa", "10.in-addr.arpa"],
  ["other-cluster.example", "other-cluster.example"],
  [`${"a".repeat(63)}.example`, `${"a".repeat(63)}.example`],
];
for (const [key, domain] of taken) {
  test(`'${key}' is taken as '${domain}'`, (t) => t.deepEqual(parse({ [key]: RESOLVERS }), { [domain]: RESOLVERS }));
}

const refused: [keys: string[], message: RegExp][] = [
  [["."], /^dns\.forward\.\.: '\.' is every name: their resolvers are in dns\.resolvers$/],
  [[""], /'' is every name/],
  [["*.corp"], /^dns\.forward\.\*\.corp: '\*\.corp' has a '\*': a domain stands for all names under it/],
  [["corp..example"], /'corp\.\.example' has an empty label/],
  [[".corp"], /'\.corp' has an empty label/],
  [["corp.."], /'corp\.\.' has an empty label/],
  [["corp example"], /'corp example' has more than letters/],
  [["b\u00fcro.example"], /has more than letters/],
  [["corp.example:53"], /has more than letters/],
  [[`${"a".repeat(64)}.example`], /has a label of more than 63/],
  [[`${"a.".repeat(126)}bc`], /has more than 253/],
  [["Localhost"], /'Localhost' has a meaning of its own/],
  [["abc.onion."], /has a meaning of its own/],
  [
    ["corp.example", "Corp.Example"],
    /^dns\.forward\.Corp\.Example: 'Corp\.Example' is the same domain as 'corp\.example'$/,
  ],
  [["corp.example.", "lab", "corp.example"], /'corp\.example' is the same domain as 'corp\.example\.'/],
];
for (const [keys, message] of refused) {
  test(`refused: ${keys.map((key) => `'${key}'`).join(" and ")}`, (t) => {
    const forward = Object.fromEntries(keys.map((key) => [key, RESOLVERS]));
    const error = t.throws(() => parse(forward), { instanceOf: ConfigError })!;
    t.regex(error.message, message);
    t.is(error.line, 2);
  });
}

test("a domain without resolvers is refused", (t) => {
  t.throws(() => parse({ "corp.example": [] }), { message: /^dns\.forward\.corp\.example: at least one resolver/ });
});

test("the domains that are the overlay's own are found", (t) => {
  const forward = parse({
    "Cluster.Example": RESOLVERS,
    "web.cluster.example.": RESOLVERS,
    "other-cluster.example": RESOLVERS,
  });
  t.deepEqual(ownAmong(forward, "cluster.example"), ["cluster.example", "web.cluster.example"]);
});
