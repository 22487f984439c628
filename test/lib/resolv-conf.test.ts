// resolv.conf(5), read and written.
import test from "ava";
import { formatResolvConf, parseResolvConf, withNdots } from "../../src/lib/resolv-conf.ts";

test("name servers are read in order, of the search lists the last, of the options all", (t) => {
  const text = `# a comment
; another
nameserver 192.0.2.1
domain one.example
search  corp.example\tlab.example # the lab's
 nameserver 9.9.9.9
nameserver\tfe80::1%eth0
nameserver
options edns0 trust-ad
options  ndots:2
sortlist 10.0.0.0/8`;
  t.deepEqual(parseResolvConf(text), {
    nameservers: ["192.0.2.1", "fe80::1%eth0"],
    search: ["corp.example", "lab.example"],
    options: ["edns0", "trust-ad", "ndots:2"],
  });
  t.deepEqual(parseResolvConf("search a.example\ndomain b.example c.example\r\n").search, ["b.example"]);
  t.deepEqual(parseResolvConf("search .\n"), { nameservers: [], search: [], options: [] });
  t.deepEqual(parseResolvConf(""), { nameservers: [], search: [], options: [] });
});

test("what is empty has no line", (t) => {
  const whole = { nameservers: ["10.192.16.1"], search: ["web.overlay", "corp.example"], options: ["ndots:0"] };
  t.is(formatResolvConf(whole), "nameserver 10.192.16.1\nsearch web.overlay corp.example\noptions ndots:0\n");
  t.is(formatResolvConf({ ...whole, search: [], options: [] }), "nameserver 10.192.16.1\n");
  t.deepEqual(parseResolvConf(formatResolvConf(whole)), whole);
});

test("ndots is 0 where nobody says otherwise", (t) => {
  t.deepEqual(withNdots(["rotate"]), ["rotate", "ndots:0"]);
  t.deepEqual(withNdots(["ndots:5", "rotate"]), ["ndots:5", "rotate"]);
});
