// The calls of etcd that this cluster's store and its members need, by the JSON gateway: docs of etcd, "api_grpc_gateway" and
// "rpc.proto". A transaction goes by gRPC, for each change of the cluster waits for one. Keys and values are text here, 64-bit ids
// are decimal text as in the JSON, revisions are numbers.
import { type CallOptions, EtcdEndpoints, type EtcdTls } from "./etcd-endpoints.ts";
import { EtcdError } from "./etcd-error.ts";
import { EtcdGateway } from "./etcd-gateway.ts";
import { EtcdGrpc } from "./etcd-grpc.ts";
import { decodeTxnResult, type EtcdRow, type EtcdTxn, type EtcdTxnResult, encodeTxn } from "./etcd-txn.ts";

interface EtcdRange {
  rows: EtcdRow[];
  /** Whether there are more rows than the limit. */
  more: boolean;
  /** Etcd's revision of the answer. */
  revision: number;
}

export interface EtcdMember {
  id: string;
  /** Empty until the member has started. */
  name: string;
  peerUrls: string[];
  isLearner: boolean;
}

interface EtcdStatus {
  /** The id of etcd's cluster: two that were begun apart have different ones. */
  clusterId: string;
  memberId: string;
  version: string;
  /** "0": there is none. */
  leader: string;
  isLearner: boolean;
  /** Bytes of the database's file, and of what is in use in it. */
  dbBytes: number;
  dbBytesInUse: number;
  raftIndex: number;
  raftAppliedIndex: number;
  /** What is wrong with the member, in etcd's words. */
  errors: string[];
}

interface EtcdAlarm {
  memberId: string;
  alarm: "NOSPACE" | "CORRUPT";
}

interface EtcdClientOptions {
  /** HOST:PORT of each. */
  endpoints: readonly string[];
  tls: EtcdTls;
}

/** All calls throw EtcdError, and end by their deadline. */
export class EtcdClient {
  readonly #gateway: EtcdGateway;
  readonly #grpc: EtcdGrpc;

  constructor({ endpoints, tls }: EtcdClientOptions) {
    const asked = new EtcdEndpoints(endpoints);
    this.#gateway = new EtcdGateway(asked, tls);
    this.#grpc = new EtcdGrpc(asked, tls);
  }

  setTls(tls: EtcdTls): void {
    this.#gateway.setTls(tls);
    this.#grpc.setTls(tls);
  }

  /** Ends calls that are under way, too. */
  close(): void {
    this.#gateway.close();
    this.#grpc.close();
  }

  /** The rows from `key` up to `end`, without it, in the order of their keys; without an `end` that of `key` alone. */
  async range(
    asked: { key: string; end?: string; limit?: number; revision?: number },
    options?: CallOptions,
  ): Promise<EtcdRange> {
    const { key, end, limit = 0, revision = 0 } = asked;
    const body = {
      key: base64(key),
      ...(end === undefined ? {} : { range_end: base64(end) }),
      limit,
      revision: String(revision),
    };
    const answer = (await this.#gateway.post("/v3/kv/range", body, options)) as RangeJson & Headed;
    return { rows: rowsOf(answer), more: answer.more === true, revision: revisionOf(answer) };
  }

  async txn(txn: EtcdTxn, options?: CallOptions): Promise<EtcdTxnResult> {
    const answer = await this.#grpc.call("/etcdserverpb.KV/Txn", encodeTxn(txn), options);
    try {
      return decodeTxnResult(answer);
    } catch (cause) {
      // It may have been carried out.
      throw new EtcdError("unanswered", "the answer of etcd to a transaction cannot be read", { cause });
    }
  }

  /** The id of a new lease. */
  async grantLease(ttlSeconds: number, options?: CallOptions): Promise<string> {
    const body = { TTL: String(ttlSeconds), ID: "0" };
    const { ID } = (await this.#gateway.post("/v3/lease/grant", body, options)) as { ID: string };
    return ID;
  }

  /** How many seconds the lease lives from now; 0: it is over. */
  async keepAlive(lease: string, options?: CallOptions): Promise<number> {
    const { TTL } = (await this.#gateway.post("/v3/lease/keepalive", { ID: lease }, options)) as { TTL?: string };
    return Number(TTL ?? 0);
  }

  /** Ends the lease, and deletes its keys. */
  async revokeLease(lease: string, options?: CallOptions): Promise<void> {
    await this.#gateway.post("/v3/lease/revoke", { ID: lease }, options);
  }

  async members(options?: CallOptions): Promise<EtcdMember[]> {
    const { members } = (await this.#gateway.post("/v3/cluster/member/list", {}, options)) as { members: MemberJson[] };
    return members.map(memberOf);
  }

  /** The new member, which does not vote before it is promoted. */
  async addLearner(peerUrl: string, options?: CallOptions): Promise<EtcdMember> {
    const body = { peerURLs: [peerUrl], isLearner: true };
    const { member } = (await this.#gateway.post("/v3/cluster/member/add", body, options)) as { member: MemberJson };
    return memberOf(member);
  }

  /** Throws EtcdError `not-ready` while the learner has not caught up. */
  async promoteMember(id: string, options?: CallOptions): Promise<void> {
    await this.#gateway.post("/v3/cluster/member/promote", { ID: id }, options);
  }

  async removeMember(id: string, options?: CallOptions): Promise<void> {
    await this.#gateway.post("/v3/cluster/member/remove", { ID: id }, options);
  }

  /** Has another member lead etcd. Only the one that leads it can be asked. Resolves when that is so. */
  async moveLeader(id: string, options?: CallOptions): Promise<void> {
    await this.#gateway.post("/v3/maintenance/transfer-leadership", { targetID: id }, options);
  }

  /** The member that answers, as it sees itself. */
  async status(options?: CallOptions): Promise<EtcdStatus> {
    const answer = (await this.#gateway.post("/v3/maintenance/status", {}, options)) as StatusJson & Headed;
    return {
      clusterId: answer.header.cluster_id,
      memberId: answer.header.member_id,
      version: answer.version,
      leader: answer.leader ?? "0",
      isLearner: answer.isLearner === true,
      dbBytes: Number(answer.dbSize ?? 0),
      dbBytesInUse: Number(answer.dbSizeInUse ?? 0),
      raftIndex: Number(answer.raftIndex ?? 0),
      raftAppliedIndex: Number(answer.raftAppliedIndex ?? 0),
      errors: answer.errors ?? [],
    };
  }

  async alarms(options?: CallOptions): Promise<EtcdAlarm[]> {
    const { alarms = [] } = (await this.#gateway.post("/v3/maintenance/alarm", { action: "GET" }, options)) as {
      alarms?: { memberID: string; alarm: EtcdAlarm["alarm"] }[];
    };
    return alarms.map(({ memberID, alarm }) => ({ memberId: memberID, alarm }));
  }

  /** Has a member take writes again after its alarm was dealt with. */
  async disarm({ memberId, alarm }: EtcdAlarm, options?: CallOptions): Promise<void> {
    await this.#gateway.post("/v3/maintenance/alarm", { action: "DEACTIVATE", memberID: memberId, alarm }, options);
  }

  /** Forgets what was before `revision`. */
  async compact(revision: number, options?: CallOptions): Promise<void> {
    await this.#gateway.post("/v3/kv/compaction", { revision: String(revision), physical: true }, options);
  }

  /** Makes the database's file of the member that answers as small as what is in use. The member does nothing else meanwhile. */
  async defragment(options?: CallOptions): Promise<void> {
    await this.#gateway.post("/v3/maintenance/defragment", {}, options);
  }
}

/** The end of the range of all keys that begin with `prefix`. */
export function endOf(prefix: string): string {
  return prefix.slice(0, -1) + String.fromCharCode(prefix.charCodeAt(prefix.length - 1) + 1);
}

interface Headed {
  header: { cluster_id: string; member_id: string; revision?: string };
}

interface RowJson {
  key: string;
  value?: string;
  create_revision: string;
  mod_revision: string;
  lease?: string;
}

interface RangeJson {
  kvs?: RowJson[];
  more?: boolean;
}

interface MemberJson {
  ID: string;
  name?: string;
  peerURLs?: string[];
  isLearner?: boolean;
}

interface StatusJson {
  version: string;
  leader?: string;
  isLearner?: boolean;
  dbSize?: string;
  dbSizeInUse?: string;
  raftIndex?: string;
  raftAppliedIndex?: string;
  errors?: string[];
}

function base64(text: string): string {
  return Buffer.from(text).toString("base64");
}

function textOf(encoded: string): string {
  return Buffer.from(encoded, "base64").toString();
}

function revisionOf({ header }: Headed): number {
  return Number(header.revision ?? 0);
}

function rowsOf({ kvs = [] }: RangeJson): EtcdRow[] {
  return kvs.map(({ key, value = "", create_revision, mod_revision, lease = "0" }) => ({
    key: textOf(key),
    value: textOf(value),
    createRevision: Number(create_revision),
    modRevision: Number(mod_revision),
    lease,
  }));
}

function memberOf({ ID, name = "", peerURLs = [], isLearner = false }: MemberJson): EtcdMember {
  return { id: ID, name, peerUrls: peerURLs, isLearner };
}
