// How a manager's etcd is started: its ports, its limits, and the certificates of the store's CA that every connection
// to it needs.
import { join } from "node:path";
import { z } from "zod";
import { ETCD_LIMITS } from "./etcd-commit.ts";

/** Debian's package starts an etcd of its own on 2379. */
export const ETCD_CLIENT_PORT = 2378;
export const DEFAULT_ETCD_BINARY = "etcd";

/** A lease of the leader is 5 s: an election must be over well before. */
const HEARTBEAT_MS = 200;
const ELECTION_MS = 2000;
const QUOTA_BYTES = 2 * 1024 ** 3;
const KEPT_REVISIONS = 1000;
/**
 * It goes before ordinary programs, for a member that waits for a processor for seconds loses the cluster its leader. Where
 * that is not allowed it runs all the same, and its log says so. The session has a nice value of its own: sched(7), autogroup.
 */
const GO_FIRST = 'echo -10 >/proc/self/autogroup; exec nice -n -10 "$@"';

/** A member by its name and the URL at which the others reach it. */
const MemberAddress = z.object({ name: z.string(), peerUrl: z.url() });

/** How a member begins. One that has data already ignores it. */
export const MemberStart = z.object({
  /** Itself among them. */
  members: z.array(MemberAddress).min(1),
  /** `new`: these members make a cluster; `existing`: it joins theirs. */
  state: z.enum(["new", "existing"]),
});
export type MemberStart = z.infer<typeof MemberStart>;

const EtcdMemberSpec = z.object({
  /** The program, a name in PATH or a path. */
  binary: z.string(),
  /** The node's id. */
  name: z.string(),
  /** The node's address on the underlay. */
  address: z.string(),
  clientPort: z.int(),
  peerPort: z.int(),
  /** Keeps members of different clusters apart. */
  token: z.string(),
  start: MemberStart,
  /** The last living member forgets all others, and leads alone. */
  forceNewCluster: z.boolean(),
});
export type EtcdMemberSpec = z.infer<typeof EtcdMemberSpec>;

/** The specification as it was written to disk. Throws when it cannot be read. */
export function readSpec(text: string): EtcdMemberSpec {
  return EtcdMemberSpec.parse(JSON.parse(text));
}

/** A member's files below its directory. */
export function etcdPaths(directory: string) {
  return {
    /** etcd's own. */
    data: join(directory, "data"),
    /** The process's pid and log. */
    process: join(directory, "process"),
    /** EtcdMemberSpec, as the member was started. */
    spec: join(directory, "member.json"),
    ca: join(directory, "ca.crt"),
    certificate: join(directory, "member.crt"),
    key: join(directory, "member.key"),
  };
}

export function peerUrlOf(address: string, port: number): string {
  return `https://${address}:${port}`;
}

/**
 * The command line. It holds no secret: all users of the machine may read it. `identity` leaves out what a running member
 * does not look at any more.
 */
export function etcdCommand(directory: string, spec: EtcdMemberSpec): { command: string[]; identity: string[] } {
  const paths = etcdPaths(directory);
  const clientUrl = peerUrlOf("127.0.0.1", spec.clientPort);
  const peerUrl = peerUrlOf(spec.address, spec.peerPort);
  const options: Record<string, string | number> = {
    name: spec.name,
    "data-dir": paths.data,
    "listen-client-urls": clientUrl,
    "advertise-client-urls": clientUrl,
    "listen-peer-urls": peerUrl,
    "initial-advertise-peer-urls": peerUrl,
    "initial-cluster": spec.start.members.map((member) => `${member.name}=${member.peerUrl}`).join(","),
    "initial-cluster-state": spec.start.state,
    "initial-cluster-token": spec.token,
    "cert-file": paths.certificate,
    "key-file": paths.key,
    "trusted-ca-file": paths.ca,
    "client-cert-auth": "true",
    "peer-cert-file": paths.certificate,
    "peer-key-file": paths.key,
    "peer-trusted-ca-file": paths.ca,
    "peer-client-cert-auth": "true",
    "heartbeat-interval": HEARTBEAT_MS,
    "election-timeout": ELECTION_MS,
    // A member that comes back from a cut line asks before it makes the others elect.
    "pre-vote": "true",
    "auto-compaction-mode": "revision",
    "auto-compaction-retention": KEPT_REVISIONS,
    "quota-backend-bytes": QUOTA_BYTES,
    "max-txn-ops": ETCD_LIMITS.txnOps,
    "max-request-bytes": ETCD_LIMITS.requestBytes,
    logger: "zap",
    "log-outputs": "stderr",
    "log-level": "warn",
  };
  const words = Object.entries(options).map(([name, value]) => `--${name}=${value}`);
  const member = [spec.binary, ...words, ...(spec.forceNewCluster ? ["--force-new-cluster"] : [])];
  const command = ["/bin/sh", "-c", GO_FIRST, "etcd", ...member];
  return { command, identity: command.filter((word) => !word.startsWith("--initial-cluster")) };
}
