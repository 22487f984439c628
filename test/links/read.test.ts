// What is read of links, as ip prints it.
import test from "ava";
import { type AddrJson, readAddresses } from "../../src/links/read.ts";

type Owner = NonNullable<NonNullable<AddrJson["linkinfo"]>["info_data"]>;

const OWNERS: [title: string, owner: Owner, isRoots: boolean][] = [
  ["root and its group", { user: "root", group: "root" }, true],
  ["root and its group, of which the machine has no names", { user: 0, group: 0 }, true],
  ["nobody", {}, false],
  ["root alone", { user: "root" }, false],
  ["the group root alone", { group: "root" }, false],
  ["another user", { user: "alice", group: "root" }, false],
  ["another group", { user: "root", group: "docker" }, false],
  ["a user without a name", { user: 1000, group: 0 }, false],
];
for (const [title, owner, isRoots] of OWNERS) {
  test(`a TUN that belongs to ${title} is ${isRoots ? "" : "not "}taken for one that only root may open`, (t) => {
    const info_data = { type: "tun", multi_queue: true, persist: true, ...owner };
    const row = { ifindex: 7, ifname: "overlay0", flags: ["UP"], mtu: 1450, linkinfo: { info_kind: "tun", info_data } };
    const tun = readAddresses([row]).links.get("overlay0");
    t.like(tun, { adoptable: true, isRoots });
  });
}
