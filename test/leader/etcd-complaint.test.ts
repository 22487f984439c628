// Why an etcd ended, from lines that Debian's etcd 3.4.23 printed.
import test from "ava";
import { complaintIn, type EtcdComplaint } from "../../src/leader/etcd-complaint.ts";

const line = (level: string, msg: string, error?: string) =>
  JSON.stringify({ level, ts: "", caller: "a.go:1", msg, error });
const WARNING = line("warn", "simple token is not cryptographically signed");

const ENDS: [title: string, printed: string[], expected: EtcdComplaint | undefined][] = [
  ["nothing", [], undefined],
  ["warnings alone", [WARNING], undefined],
  [
    "a database that is none",
    [
      line("panic", "failed to open database", "invalid database"),
      "panic: failed to open database",
      "goroutine 1 [running]:",
    ],
    { kind: "damaged", text: "failed to open database: invalid database; panic: failed to open database" },
  ],
  [
    "a port that is taken",
    [
      line("warn", "failed to start etcd"),
      line("fatal", "discovery failed", "listen tcp 127.0.0.1:2380: bind: address already in use"),
    ],
    { kind: "other", text: "discovery failed: listen tcp 127.0.0.1:2380: bind: address already in use" },
  ],
  [
    "a full disk",
    [line("fatal", "failed to save Raft hard state and entries", "write /d/wal/0.wal: no space left on device")],
    {
      kind: "full",
      text: "failed to save Raft hard state and entries: write /d/wal/0.wal: no space left on device",
    },
  ],
  [
    "a log that is damaged",
    [line("fatal", "failed to read WAL, cannot be repaired", "walpb: crc mismatch"), WARNING],
    { kind: "damaged", text: "failed to read WAL, cannot be repaired: walpb: crc mismatch" },
  ],
  [
    "data that is gone",
    [line("fatal", "discovery failed", "member 8e9e05c52164694d has already been bootstrapped")],
    { kind: "damaged", text: "discovery failed: member 8e9e05c52164694d has already been bootstrapped" },
  ],
  [
    "data that is gone, when members came after it",
    [line("fatal", "discovery failed", "error validating peerURLs {ClusterID:f2}: member count is unequal")],
    {
      kind: "damaged",
      text: "discovery failed: error validating peerURLs {ClusterID:f2}: member count is unequal",
    },
  ],
  [
    "a member that was removed",
    [line("warn", "server error", "the member has been permanently removed from the cluster"), '{"level":"fa'],
    { kind: "removed", text: "server error: the member has been permanently removed from the cluster" },
  ],
];
for (const [title, printed, expected] of ENDS) {
  test(`after ${title}`, (t) => t.deepEqual(complaintIn(printed.join("\n")), expected));
}
