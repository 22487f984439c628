// overlayctl cluster: the managers, their store, and backups of the cluster.
import { resolve } from "node:path";
import { type Command, Option } from "commander";
import type { ClusterStatusView, ManagerStatusView, MoveView } from "../api/cluster-schema.ts";
import { counted } from "../lib/counted.ts";
import type { Context } from "./context.ts";
import { capital, formatBytes } from "./format.ts";
import { type Column, formatTable } from "./table.ts";

const STORES = {
  file: "a file of the leader (LMDB)",
  etcd: "etcd, which the managers run",
  "external etcd": "external etcd",
};

export function addClusterCommands(program: Command, context: Context): void {
  const cluster = program.command("cluster").description("look after the managers and what they keep");

  cluster
    .command("status")
    .description("show the managers, the store that they share, and what is wrong with either")
    .option("--json", "print JSON")
    .action(async ({ json = false }: { json?: boolean }) => {
      const status = await context.api().clusterStatus();
      context.out(json ? `${JSON.stringify(status, null, 2)}\n` : describe(status));
    });

  cluster
    .command("export <file>")
    .description("write a backup on this manager: FILE, and FILE.secrets, which the managers' passphrase locks")
    .action(async (file: string) => {
      const { path, revision } = await context.api().exportCluster({ path: resolve(file) });
      context.out(`revision ${revision} is in ${path}, its secrets in ${path}.secrets: keep both\n`);
    });

  cluster
    .command("import <file>")
    .description(
      "make a cluster of one manager of a backup, on a machine that is in no cluster; nodes take it as a new epoch",
    )
    .option("--passphrase-file <path>", "the passphrase of the manager that wrote it (default: this node's own)")
    .action(async (file: string, { passphraseFile }: { passphraseFile?: string }) => {
      const {
        cluster: id,
        epoch,
        revision,
      } = await context.api().importCluster({
        path: resolve(file),
        ...(passphraseFile === undefined ? {} : { passphraseFile: resolve(passphraseFile) }),
      });
      context.out(
        `This node leads cluster ${id} from revision ${revision}, in epoch ${epoch}. Nodes follow it by themselves if this machine ` +
          "has the address of an earlier manager. If not, 'overlayctl join ADDRESS --token T' on a node has it follow, with its tasks; on an earlier " +
          "leader that still runs, it has that one give way.\n",
      );
    });

  cluster
    .command("move")
    .description(
      "move the state from the leader's file to etcd now, with the managers that there are; at the third manager that happens by itself",
    )
    .addOption(
      new Option("--store <store>", "where to: an etcd that the managers run").choices(["etcd"]).default("etcd"),
    )
    .option("-f, --force", "also where a disk is too slow for etcd, which may lose its leader again and again then")
    .action(async ({ force = false }: { force?: boolean }) => {
      const moved = await context.api().moveStore({ force });
      context.out(describeMove(moved));
      for (const warning of moved.warnings) context.err(`overlayctl: ${warning}\n`);
    });

  cluster
    .command("takeover")
    .description("on a standby: lead from the copy of the state, when the leader is gone and there are two managers")
    .option("-f, --force", "also while the leader answers; what is not copied yet is lost")
    .action(async ({ force = false }: { force?: boolean }) => {
      const { revision, epoch, notCopied } = await context.api().takeOver({ force });
      context.out(`This node leads from revision ${revision}, in epoch ${epoch}.\n`);
      if (notCopied !== null && notCopied > 0)
        context.err(
          `overlayctl: ${counted(notCopied, "commit of the leader before is", "commits of the leader before are")} not in it\n`,
        );
      if (notCopied === null) {
        context.err(
          "overlayctl: the leader before did not answer: what it had written last may be missing, and it lists that in its log when it comes back\n",
        );
      }
    });

  cluster
    .command("recover")
    .description(
      "on the last living manager, when a majority is gone for good: its etcd forgets the others, and it leads",
    )
    .option("-f, --force", "also while a majority of the managers seems to live")
    .action(async ({ force = false }: { force?: boolean }) => {
      const { revision, epoch } = await context.api().recoverCluster({ force });
      context.out(
        `This node leads from revision ${revision}, in epoch ${epoch}. Managers that come back are added again.\n`,
      );
    });
}

function describeMove({ store, revision, members, missing }: MoveView): string {
  if (store === "external etcd") return `The cluster's state, revision ${revision}, is in the external etcd now.\n`;
  const lines = [
    `The cluster's state, revision ${revision}, is in etcd now, which ${members.join(", ")} run${members.length === 1 ? "s" : ""}.`,
  ];
  if (missing.length > 0) lines.push(`${missing.join(", ")}: not ready; its etcd is added when it is.`);
  if (members.length === 1) {
    lines.push(
      "One manager leads nothing when it fails, as before; a second and a third are added to etcd as they join.",
    );
  }
  if (members.length === 2) {
    lines.push(
      "Two managers: while one of them fails, none leads, and 'overlayctl cluster recover' on the other one leads alone; a third takes over by itself.",
    );
  }
  return `${lines.join("\n")}\n`;
}

const COLUMNS: readonly Column<ManagerStatusView>[] = [
  { header: "MANAGER", value: (row) => (row.self ? `${row.node} *` : row.node) },
  { header: "ADDRESS", value: (row) => row.address ?? "-" },
  { header: "STATUS", value: (row) => capital(row.role) },
  { header: "REVISION", value: (row) => (row.revision === null ? "-" : `${row.revision}`) },
  { header: "ETCD", value: etcdWord },
  {
    header: "EXPORT",
    value: (row) => (row.newestExport === null ? "-" : new Date(row.newestExport.at).toISOString().slice(0, 16)),
  },
];

function etcdWord({ etcd }: ManagerStatusView): string {
  if (etcd === null) return "-";
  if (etcd.process !== "running") return capital(etcd.process);
  return `${etcd.version ?? "no answer"}${etcd.learner ? ", learner" : ""}, ${formatBytes(etcd.bytes)}`;
}

function describe({ cluster, epoch, revision, store, leader, managers, warnings }: ClusterStatusView): string {
  const lines = [
    `Cluster:   ${cluster}, epoch ${epoch ?? "-"}, revision ${revision}`,
    `Store:     ${STORES[store]}`,
    `Leader:    ${leader ?? "none answers"}`,
    "",
    formatTable(COLUMNS, managers).trimEnd(),
  ];
  for (const { node, problem, mend } of managers) {
    if (problem === null) continue;
    lines.push("", `${node}: ${problem}`);
    if (mend !== null) lines.push(`  ${mend}`);
  }
  if (warnings.length > 0) lines.push("", ...warnings.map((warning) => `Warning: ${warning}`));
  return `${lines.join("\n")}\n`;
}
