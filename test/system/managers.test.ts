// Three managers as processes in namespaces: the move to etcd, leaders and members that are killed, and a majority that is gone.
import { existsSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { waitFor } from "./command.ts";
import type { Lab, LabNode } from "./lab.ts";
import { hasNetworks, membersOfEtcd, statusOf, untilWhole, untilWritten } from "./managers.ts";
import { systemTest, useLab } from "./system-test.ts";

const three = useLab({ prefix: "mgt", nodes: 3, managers: 3 });

function named(lab: Lab, name: string | null): LabNode {
  return lab.nodes.find((node) => node.name === name)!;
}

function etcdPid(node: LabNode): number {
  return Number(readFileSync(join(node.directory, "data/etcd/process/pid"), "utf8").split(" ")[0]);
}

systemTest(
  "at the third manager the state moves to etcd; the leader's agent is killed, and another one leads with all of it",
  async (t) => {
    const lab = three();
    await untilWhole(lab.nodes);
    await lab.nodes[0]!.ctl("network", "create", "before");
    const leader = named(lab, (await statusOf(lab.nodes[0]!)).leader);
    const others = lab.nodes.filter((node) => node !== leader);
    await leader.killAgent();
    await untilWritten(others, "after");
    await hasNetworks(t, others[0]!, ["before", "after"]);
    const pid = etcdPid(leader);
    t.notThrows(() => process.kill(pid, 0), "its etcd goes on without the agent");
    await leader.startAgent();
    await untilWhole(lab.nodes);
    t.is(etcdPid(leader), pid, "its etcd was adopted");
  },
);

systemTest("an etcd that is killed comes back, and one whose data is damaged is made anew", async (t) => {
  const lab = three();
  const status = await untilWhole(lab.nodes);
  const member = lab.nodes.find((node) => node.name !== status.leader)!;
  process.kill(etcdPid(member), "SIGKILL");
  await untilWritten(lab.nodes, "killed");
  await untilWhole(lab.nodes);
  const leader = named(lab, status.leader);
  const before = new Set((await membersOfEtcd(leader)).map(({ id }) => id));
  const wal = join(member.directory, "data/etcd/data/member/wal");
  process.kill(etcdPid(member), "SIGKILL");
  for (const name of readdirSync(wal)) rmSync(join(wal, name));
  const isAnew = async () => (await membersOfEtcd(leader)).some(({ id }) => !before.has(id));
  await waitFor(isAnew, { what: "the damaged one to be another member of etcd" });
  await untilWhole(lab.nodes);
  await untilWritten(lab.nodes, "damaged");
  await hasNetworks(t, member, ["killed", "damaged"]);
});

systemTest("'node demote' is refused when the rest would have no majority, and says who is missing", async (t) => {
  const lab = three();
  const status = await untilWhole(lab.nodes);
  const leader = named(lab, status.leader);
  const [first, second] = lab.nodes.filter((node) => node !== leader);
  await first!.stopAgent();
  process.kill(etcdPid(first!), "SIGSTOP");
  const { status: code, stderr } = await leader.tryExec(["overlayctl", "node", "demote", second!.name]);
  t.not(code, 0);
  t.regex(stderr, new RegExp(`without node '${second!.name}' the managers would have no majority: .*${first!.name}`));
  process.kill(etcdPid(first!), "SIGCONT");
  await first!.startAgent();
  await untilWhole(lab.nodes);
});

systemTest(
  "managers are demoted one after the other down to the last one, which goes on writing, and come back",
  async (t) => {
    const lab = three();
    const leader = named(lab, (await untilWhole(lab.nodes)).leader);
    const [first, second] = lab.nodes.filter((node) => node !== leader) as [LabNode, LabNode];
    await leader.ctl("node", "demote", first.name);
    await untilWhole([leader], 2);
    const areTwo = async () => (await membersOfEtcd(leader)).length === 2;
    await waitFor(areTwo, { what: "etcd to have two members" });
    const removed = await leader.tryExec(["overlayctl", "node", "rm", "--force", second.name]);
    t.not(removed.status, 0);
    t.regex(removed.stderr, /is one of two managers, and its etcd is needed .*: 'overlayctl node demote/);
    await leader.ctl("node", "demote", leader.name);
    await untilWhole([second], 1);
    await untilWritten([second], "alone");
    for (const node of [first, leader])
      await waitFor(() => !existsSync(join(node.directory, "data/etcd/member.json")), {
        what: "the etcd of a manager that is none to be deleted",
      });
    await second.ctl("node", "promote", first.name, leader.name);
    await untilWhole(lab.nodes);
    await hasNetworks(t, first, ["alone"]);
  },
);

systemTest(
  "two of three managers gone: writes are refused and say what to type; 'cluster recover' leads with what was written",
  async (t) => {
    const lab = three();
    const status = await untilWhole(lab.nodes);
    const last = lab.nodes.find((node) => node.name !== status.leader)!;
    await last.ctl("network", "create", "kept");
    const gone = lab.nodes.filter((node) => node !== last);
    for (const node of gone) {
      await node.killAgent();
      process.kill(etcdPid(node), "SIGKILL");
    }
    const refusal = await waitFor(
      async () => {
        const { status: code, stderr } = await last.tryExec(["overlayctl", "network", "create", "lost"]);
        return code !== 0 && stderr.includes("overlayctl cluster recover") ? stderr : undefined;
      },
      { what: "a write to be refused with what to type" },
    );
    t.regex(refusal, /no leader answers|no manager leads/);
    const found = await statusOf(last);
    t.true(
      found.warnings.some((warning) => /only 1 of 3 managers/.test(warning)),
      JSON.stringify(found),
    );
    t.regex(await last.ctl("cluster", "recover"), /This node leads from revision/);
    await untilWritten([last], "recovered");
    await hasNetworks(t, last, ["kept", "recovered"]);
    for (const node of gone) await node.startAgent();
    await untilWhole(lab.nodes);
    await hasNetworks(t, gone[0]!, ["kept", "recovered"]);
  },
);
