// Scaling and losing tasks under load: wrk through the mesh and through a VIP, with tasks that close properly.

import { Background, waitFor } from "./command.ts";
import { processOf, runningTasks, untilRunning, vipOf } from "./listings.ts";
import { systemTest, useLab } from "./system-test.ts";

const CONNECTIONS = 16;

const lab = useLab({ prefix: "scl", nodes: 3 }, async ({ nodes: [node1] }) => {
  await node1!.ctl("network", "create", "web");
  const created = await node1!.shell(
    `overlayctl service create --name search --replicas 3 -p 9200:9200 --network web --stop-grace 2s \\
      --workdir "$PWD" -- ${process.execPath} configs/search-server.js 9200`,
  );
  if (created.status !== 0) throw new Error(created.stderr);
});

interface Load {
  /** Of all kinds: refused, reset, timed out, and answers that are none. */
  errors: number;
  requests: number;
}

/** What wrk counted; its line of socket errors is missing when there were none. */
function countsOf(output: string): Load {
  const requests = Number(/(\d+) requests in/.exec(output)?.[1]);
  const errors = /Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)/.exec(output)?.slice(1) ?? [];
  const answers = Number(/Non-2xx or 3xx responses: (\d+)/.exec(output)?.[1] ?? 0);
  return { errors: errors.map(Number).reduce((sum, count) => sum + count, answers), requests };
}

/** From a client outside through node 3, and from a container through the VIP, while `work` goes on. */
async function underLoad(work: () => Promise<void>): Promise<Record<"mesh" | "vip", Load>> {
  const [, node2, node3] = lab().nodes;
  const vip = await vipOf(node2!, "search");
  const wrk = (target: string): string[] => {
    return [
      "stdbuf",
      "-oL",
      "wrk",
      "-t",
      "1",
      "-c",
      String(CONNECTIONS),
      "-d",
      "60s",
      "--timeout",
      "15s",
      `http://${target}:9200/`,
    ];
  };
  const loads = {
    mesh: new Background(lab().client.inside(wrk(node3!.address))),
    vip: new Background(node2!.inside(["overlayctl", "run", "--network", "web", "--", ...wrk(vip!)]), node2!.env),
  };
  for (const load of Object.values(loads)) await load.says("Running 1m test");
  await work();
  for (const load of Object.values(loads)) await load.end("SIGINT");
  return { mesh: countsOf(loads.mesh.output), vip: countsOf(loads.vip.output) };
}

systemTest("scaled from three to six to two under load, no request fails", async (t) => {
  const [node1] = lab().nodes;
  const loads = await underLoad(async () => {
    for (const replicas of [6, 2]) {
      await node1!.ctl("service", "scale", `search=${replicas}`);
      await untilRunning(node1!, "search", replicas);
    }
    await untilGone(2);
  });
  t.log(loads);
  for (const [way, { errors, requests }] of Object.entries(loads)) {
    t.true(requests > 0, way);
    t.is(errors, 0, way);
  }
});

systemTest("a drained node's tasks move under load, and no request fails", async (t) => {
  const [node1] = lab().nodes;
  const loads = await underLoad(async () => {
    await node1!.ctl("node", "drain", "scln2");
    await untilRunning(node1!, "search", 2);
    await untilGone(2);
    await node1!.ctl("node", "activate", "scln2");
  });
  t.log(loads);
  for (const [way, { errors }] of Object.entries(loads)) t.is(errors, 0, way);
});

systemTest("a task that is killed under load fails its own connections' requests and no others", async (t) => {
  const [node1] = lab().nodes;
  await node1!.ctl("service", "scale", "search=3");
  await untilRunning(node1!, "search", 3);
  const loads = await underLoad(async () => {
    const [victim] = await runningTasks(node1!, "search");
    process.kill(await processOf(victim!), "SIGKILL");
    await untilRunning(node1!, "search", 3);
  });
  t.log(loads);
  // Each connection of the task breaks once, and may meet the dead task once more before its node has noticed.
  for (const [way, { errors }] of Object.entries(loads)) t.true(errors <= CONNECTIONS, `${way}: ${errors}`);
});

/** Waits until tasks that drain or stop have ended too. */
async function untilGone(left: number): Promise<void> {
  const [node1] = lab().nodes;
  await waitFor(async () => (await node1!.ctlJson<object[]>("service", "ps", "search")).length === left, {
    what: `all but ${left} tasks to be gone`,
  });
}
