// What a manager says of itself to the others and to `cluster status`.
import { versionOf } from "../cluster/identity.ts";
import type { ManagerReport, MemberReport } from "../leader/manager-protocol.ts";
import { messageOf } from "../lib/errors.ts";
import type { EtcdAccess } from "./etcd-access.ts";
import type { Manager } from "./manager.ts";
import type { ManagerOptions } from "./manager-options.ts";
import { ownMember } from "./own-member.ts";

const ASK_MS = 1500;

export async function reportOf(options: ManagerOptions, manager: Manager): Promise<ManagerReport> {
  const { config, state, exports, tookOver, ring } = options;
  const { leader, copy, kind, whyNot } = manager;
  const followed = copy ?? state();
  const version = leader === undefined ? undefined : versionOf(leader.state);
  return {
    node: config.node.name,
    cluster: leader?.state.cluster ?? followed?.cluster ?? null,
    revision: version?.revision ?? followed?.revision ?? 0,
    role: leader !== undefined ? "leader" : whyNot === undefined ? "standby" : "idle",
    store: kind,
    problem: whyNot ?? (await externalProblem(manager)) ?? copy?.problem ?? null,
    member: (await manager.member.isThere()) ? await memberReport(options, manager) : null,
    authorities: ring.digests,
    newestExport: await exports.newest(),
    tookOver: await tookOver.read(),
  };
}

/** Why this manager could not lead from an etcd that it does not run; undefined: it could. */
async function externalProblem({ kind, access }: Manager): Promise<string | undefined> {
  if (kind !== "external etcd" || access === undefined) return undefined;
  const mend = "look at that etcd, and at 'cluster.etcd' in this node's configuration";
  return access.client.status({ timeoutMs: ASK_MS }).then(
    () => undefined,
    (error: unknown) => `${messageOf(error)} (${mend})`,
  );
}

async function memberReport(options: ManagerOptions, manager: Manager): Promise<MemberReport> {
  const { status, log } = manager.member;
  const report: MemberReport = {
    process: status.state,
    pid: status.state === "running" ? status.pid : null,
    condition: await ownMember(options, manager).condition(),
    problem: null,
    mend: null,
    version: null,
    isLearner: false,
    trust: await manager.member.trust(),
    bytes: 0,
  };
  const complaint = await manager.member.complaint();
  if (complaint !== undefined) {
    const text = "error" in status && status.state === "failed" ? status.error : complaint.text;
    return {
      ...report,
      problem: complaint.kind === "other" ? text : complaint.text,
      mend: mendOf(complaint.kind, log),
    };
  }
  return { ...report, ...(await answerOf(manager.access)) };
}

/** What a person may do about an etcd that does not run. */
function mendOf(kind: "damaged" | "removed" | "full" | "other", log: string): string {
  if (kind === "full") return "make room on its disk (df shows it): its etcd is started again by itself within 30 s";
  if (kind === "damaged") {
    return "it is begun anew by itself while a majority of the others is well; otherwise 'overlayctl cluster recover' on one that is";
  }
  if (kind === "removed") return "it is added again by itself while its node is a manager";
  return `look at ${log}; 'systemctl restart overlayd' tries it again`;
}

/** What etcd itself answers. */
async function answerOf(access: EtcdAccess | undefined): Promise<Partial<MemberReport>> {
  if (access === undefined) return {};
  try {
    const { version, isLearner, dbBytes, memberId } = await access.client.status({ timeoutMs: ASK_MS });
    const alarms = await access.client.alarms({ timeoutMs: ASK_MS }).catch(() => []);
    const own = alarms.filter((alarm) => alarm.memberId === memberId);
    return { version, isLearner, bytes: dbBytes, ...alarmOf(own.map(({ alarm }) => alarm)) };
  } catch (error) {
    return {
      condition: "ended",
      problem: `its etcd does not answer: ${messageOf(error)}`,
      mend: "with a majority of the managers back it answers again; if they are gone for good, 'overlayctl cluster recover' on one that lives",
    };
  }
}

function alarmOf(alarms: readonly string[]): Partial<MemberReport> {
  if (alarms.includes("NOSPACE")) {
    return {
      problem: "its etcd has used up its quota and takes no writes (NOSPACE)",
      mend: "its manager makes it smaller and takes the alarm back within seconds; if it stays, 'overlayctl cluster export FILE', then remove services or networks that are not needed",
    };
  }
  if (alarms.includes("CORRUPT")) {
    return {
      condition: "damaged",
      problem: "its etcd says that its data is not that of the others (CORRUPT)",
      mend: "it is begun anew by itself while a majority of the others is well",
    };
  }
  return {};
}
