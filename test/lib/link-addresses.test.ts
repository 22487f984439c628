// The addresses of the machine's links.
import test from "ava";
import { linkAddresses, linkOfLabel } from "../../src/lib/link-addresses.ts";

test("an address with a label is its link's", (t) => {
  t.deepEqual(["eth0", "eth0:1", "eth0:web:2"].map(linkOfLabel), ["eth0", "eth0", "eth0"]);
});

test("addresses are IPv4, each with a link", (t) => {
  for (const { link, address } of linkAddresses()) {
    t.regex(address, /^\d+\.\d+\.\d+\.\d+$/);
    t.notRegex(link, /:|^$/);
  }
});
