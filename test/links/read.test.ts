// What is read of links, as ip prints it.
import test from "ava";
import { type AddrJson, lastingPart, readAddresses } from "../../src/links/read.ts";

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

test("timers and life times do not make one look differ from the next, and everything else does", (t) => {
  const docker = (timer: string, lifeTime: number, mtu = 1500) =>
    `[{"ifname":"docker0","mtu":${mtu},"linkinfo":{"info_data":{"gc_timer":   ${timer},"hello_timer":${timer},"ageing_time":30000}},` +
    `"addr_info":[{"local":"172.17.0.1","valid_life_time":${lifeTime},"preferred_life_time":${lifeTime}}]}]`;
  t.is(lastingPart(docker("41.23", 3600)), lastingPart(docker("0.00", 3570)));
  t.not(lastingPart(docker("41.23", 3600)), lastingPart(docker("41.23", 3600, 1400)));
});
