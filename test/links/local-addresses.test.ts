// Which of the kernel's local routes are addresses of the node.
import test from "ava";
import { localAddressesIn } from "../../src/links/local-addresses.ts";

test("an address counts on whichever link it is, once; the overlay's own and whole prefixes do not", (t) => {
  const listing = [
    { dst: "127.0.0.0/8", dev: "lo" },
    { dst: "127.0.0.1", dev: "lo" },
    { dst: "198.51.100.7", dev: "lo" },
    { dst: "192.0.2.11", dev: "eth0" },
    { dst: "192.0.2.11", dev: "eth1" },
    { dst: "10.192.0.2", dev: "overlay0" },
    { dst: "203.0.113.0/24", dev: "lo" },
  ];
  t.deepEqual(localAddressesIn(JSON.stringify(listing), "overlay0"), [
    { address: "192.0.2.11", onLoopback: false },
    { address: "198.51.100.7", onLoopback: true },
  ]);
});

test("a node without an address has none", (t) => t.deepEqual(localAddressesIn("", "overlay0"), []));
