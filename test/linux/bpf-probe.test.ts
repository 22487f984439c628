// What the probe makes of a kernel's refusal, where this machine's kernel does not refuse.
import test from "ava";
import { lackOf } from "../../src/linux/bpf-probe.ts";
import { SyscallError } from "../../src/linux/libc.ts";

const status = (capabilities: string, seccomp = 0): string =>
  `Name:\tnode\nCapEff:\t${capabilities}\nSeccomp:\t${seccomp}\n`;
const ALL = "000001ffffffffff";
/** CAP_NET_ADMIN and CAP_SYS_ADMIN: what the compose file gives. */
const COMPOSE = "0000000000201000";
const EVERYONE = "         0          0 4294967295\n";
const REMAPPED = "         0     100000      65536\n";

const ENOSYS = 38;
const EPERM = 1;
const EINVAL = 22;
const ENODEV = 19;

type Row = [
  what: string,
  step: "map" | "program" | "tcx",
  errno: number,
  facts: Partial<Parameters<typeof lackOf>[2]>,
  RegExp,
];
const ROWS: Row[] = [
  [
    "a kernel before tcx",
    "tcx",
    EINVAL,
    { release: "6.1.0-18-amd64" },
    /^this kernel \(6\.1\.0-18-amd64\) has no tcx, which came with Linux 6\.6: /,
  ],
  ["a kernel of the version 5.15", "tcx", EINVAL, { release: "5.15.0" }, /has no tcx, which came with Linux 6\.6/],
  ["a new kernel without tcx", "tcx", EINVAL, { release: "6.12.3" }, /was built without tcx \(CONFIG_NET_XGRESS\)/],
  ["a kernel without bpf(2)", "map", ENOSYS, {}, /^this kernel \(6\.18\.0\) has no bpf\(2\) for programs: /],
  [
    "a container without capabilities",
    "map",
    EPERM,
    { status: status("00000000a80425fb", 2) },
    /^the process lacks CAP_BPF and CAP_NET_ADMIN \(/,
  ],
  ["a remapped container", "map", EPERM, { uidMap: REMAPPED }, /^the process runs in a user namespace/],
  [
    "a seccomp filter",
    "map",
    EPERM,
    { status: status(COMPOSE, 2) },
    /^a seccomp filter of the process may refuse bpf\(2\)/,
  ],
  ["lockdown", "program", EPERM, {}, /^the kernel's lockdown or a security module refuses bpf\(2\)/],
  ["another refusal", "tcx", ENODEV, {}, /^bpf: BPF_CALL of it: no such device \(ENODEV\)$/],
];
for (const [what, step, errno, facts, message] of ROWS) {
  test(`${what} is named`, (t) => {
    const whole = { release: "6.18.0", status: status(ALL), uidMap: EVERYONE, ...facts };
    t.regex(lackOf(step, new SyscallError("bpf: BPF_CALL of it", errno), whole), message);
  });
}
