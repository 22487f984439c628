// What iproute2 and the kernel say, read back.
import test from "ava";
import { vethName } from "../../src/links/desired.ts";
import { platformError, readRefusedLines } from "../../src/links/iproute.ts";
import { readFilter } from "../../src/links/read.ts";
import { isOurs } from "../../src/links/watch.ts";

test("every refused line of a batch is told from the others", (t) => {
  const stderr = 'Cannot find device "x"\nCommand failed -:2\nRTNETLINK answers: File exists\nCommand failed -:7\n';
  t.deepEqual(readRefusedLines(stderr), [
    { index: 1, reason: 'Cannot find device "x"' },
    { index: 6, reason: "RTNETLINK answers: File exists" },
  ]);
});

test("a filter is read from tc's text", (t) => {
  const text = `qdisc noqueue 0: root refcnt 2
qdisc clsact ffff: parent ffff:fff1
filter protocol ip pref 1 u32 chain 0 fh 800::800 order 2048 key ht 800 bkt 0 terminal flowid not_in_hw
  match 0ac00005/ffffffff at 12
	action order 1: mirred (Egress Redirect to device overlay0) stolen
`;
  t.is(readFilter(text), "0ac00005/ffffffff at 12 > overlay0");
  t.is(readFilter("qdisc clsact ffff: parent ffff:fff1"), "");
});

const REASONS: [reason: string, mend: RegExp][] = [
  ["RTNETLINK answers: Operation not permitted", /root/],
  ["open: /dev/net/tun: No such file or directory", /modprobe tun/],
  ["Error: Specified qdisc kind is unknown.", /modprobe sch_ingress/],
  ["Error: TC classifier not found.", /modprobe cls_u32/],
  ["Error: Failed to load TC action module.", /modprobe act_mirred/],
  ["something new", /try it: ip link add/],
];
for (const [reason, mend] of REASONS) {
  test(`'${reason}' comes with what mends it`, (t) => {
    const error = platformError("ip link add", reason);
    t.regex(error.mend, mend);
    t.true(error.message.includes(reason));
  });
}

test("a host end is named after its address, and fits the kernel", (t) => {
  t.is(vethName("10.192.0.5"), "ovl0ac00005");
  t.is(vethName("255.255.255.255").length, 11);
});

const EVENTS: [line: string, expected: boolean][] = [
  ["Deleted 11:\tfrom all iif overlay0 lookup 4790", true],
  ["Deleted blackhole 10.192.0.0/10 table 4790", true],
  ["3: ovl0ac00005@if2: <NO-CARRIER,BROADCAST,MULTICAST,UP> mtu 1450 state LOWERLAYERDOWN", true],
  ["deleted qdisc clsact ffff: dev ovl0ac00005 parent ffff:fff1", true],
  ["192.0.2.1 dev eth0 lladdr 02:00:00:00:00:01 REACHABLE", false],
  ["7: overlay01: <BROADCAST> mtu 1500", false],
];
for (const [line, expected] of EVENTS) {
  test(`'${line}' is ${expected ? "" : "not "}a change of ours`, (t) => t.is(isOurs(line, "overlay0"), expected));
}
