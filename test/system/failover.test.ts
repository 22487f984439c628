// Three managers as processes in namespaces, under writers, readers and HTTP clients: the leader's agent is stopped, frozen and
// continued, and cut off with its etcd. What writers and readers saw is judged by test/chaos/history.ts.
import { Clients } from "./clients.ts";
import { waitFor } from "./command.ts";
import type { Lab, LabNode } from "./lab.ts";
import { leadsEtcd } from "./managers.ts";
import { systemTest, useLab } from "./system-test.ts";

const three = useLab({ prefix: "fov", nodes: 3, managers: 3 }, async ({ nodes }) => {
  await nodes[0]!.ctl("service", "create", "--name", "web", "--replicas", "3", "--publish", "8080:8080", ...SERVER);
});
const SERVER = ["--", "python3", "-m", "http.server", "8080"];

async function untilEtcd({ nodes }: Lab): Promise<LabNode> {
  return waitFor(
    async () => {
      const { store, leader, managers } = await nodes[0]!.api.clusterStatus();
      const isWhole = store === "etcd" && managers.every(({ etcd, problem }) => etcd?.learner === false && !problem);
      return isWhole ? nodes.find(({ name }) => name === leader) : undefined;
    },
    { what: "the state to be in etcd, and a leader there" },
  );
}

async function prepare(prefix: string): Promise<{ leader: LabNode; clients: Clients }> {
  const lab = three();
  const leader = await untilEtcd(lab);
  await waitFor(async () => (await lab.nodes[0]!.api.service("web")).running === 3, { what: "three tasks to run" });
  // The leader's own packets wait for its agent.
  const clients = new Clients({ lab, prefix, managers: lab.nodes, doors: lab.nodes.filter((node) => node !== leader) });
  await clients.nextWrite();
  return { leader, clients };
}

/** The manager that leads has its own member lead etcd, when all are well. */
async function untilLeaderLeadsEtcd(): Promise<void> {
  const lab = three();
  await waitFor(async () => leadsEtcd(await untilEtcd(lab)), { what: "the leader's own member to lead etcd" });
}

systemTest("a leader that is stopped by SIGTERM hands over: no write is lost, and no request fails", async (t) => {
  const { leader, clients } = await prepare("stop");
  await untilLeaderLeadsEtcd();
  await leader.stopAgent();
  t.log(`a write succeeded ${Math.round(await clients.nextWrite())} ms after its agent had ended`);
  t.false(await leadsEtcd(leader), "its member, whose machine may be about to stop, leads etcd no more");
  await leader.startAgent();
  await clients.nextWrite();
  await untilLeaderLeadsEtcd();
  await clients.judge(t);
  t.deepEqual(clients.failedRequests, []);
});

systemTest("a leader that is frozen and continued finds that it leads no more before it writes", async (t) => {
  const { leader, clients } = await prepare("frozen");
  process.kill(leader.agentPid!, "SIGSTOP");
  t.log(`a write succeeded ${Math.round(await clients.nextWrite())} ms after it was frozen`);
  process.kill(leader.agentPid!, "SIGCONT");
  await clients.nextWrite();
  await waitFor(async () => (await three().nodes[0]!.api.clusterStatus()).leader !== null, { what: "a leader" });
  await clients.judge(t);
  t.deepEqual(clients.failedRequests, []);
});

const CUT =
  "table inet cut { chain i { type filter hook input priority -300; iif != lo drop; }; chain o { type filter hook output priority -300; oif != lo drop; }; }";

systemTest(
  "a leader that is cut off with its etcd fences itself, and follows the next one when it is back",
  async (t) => {
    const { leader, clients } = await prepare("cut");
    await leader.exec(["nft", CUT]);
    t.log(`a write succeeded ${Math.round(await clients.nextWrite())} ms after it was cut off`);
    const others = three().nodes.filter((node) => node !== leader);
    await waitFor(
      async () => {
        const { leader: name } = await others[0]!.api.clusterStatus();
        return name !== null && name !== leader.name;
      },
      { what: "another leader" },
    );
    await leader.exec(["nft", "delete", "table", "inet", "cut"]);
    await waitFor(async () => (await leader.api.status()).connected, { what: "it to follow the new leader" });
    await clients.judge(t);
  },
);
