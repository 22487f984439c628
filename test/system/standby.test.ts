// Two managers as processes in namespaces: the standby copies and takes over by hand, and an export is imported on a bare machine.
import { join } from "node:path";
import { waitFor } from "./command.ts";
import { hasNetworks, statusOf, untilWritten } from "./managers.ts";
import { systemTest, useLab } from "./system-test.ts";

const lab = useLab({ prefix: "sby", nodes: 3, managers: 2, waiting: 1 });

systemTest(
  "with two managers the standby takes over by hand, and the leader before gives way with what was not copied",
  async (t) => {
    const [leader, standby, worker] = [lab().nodes[0]!, lab().nodes[1]!, lab().nodes[2]!];
    await leader.ctl("network", "create", "copied");
    const { revision } = await statusOf(leader);
    await waitFor(
      async () =>
        (await statusOf(standby)).managers.some(({ self, revision: own }) => self && own !== null && own >= revision) ||
        undefined,
      {
        what: "the standby to have copied",
      },
    );
    t.true((await statusOf(leader)).warnings.some((warning) => warning.startsWith("two managers")));
    const refused = await standby.tryExec(["overlayctl", "cluster", "takeover"]);
    t.not(refused.status, 0);
    t.regex(refused.stderr, /leads, and answers at .*: stop its agent first; '--force'/);
    await leader.killAgent();
    t.regex(await standby.ctl("cluster", "takeover"), /This node leads from revision \d+, in epoch \d+/);
    await untilWritten([standby], "after");
    await hasNetworks(t, standby, ["copied", "after"]);
    await leader.startAgent();
    await waitFor(
      async () =>
        (await leader.ctlJson<{ name: string }[]>("network", "ls")).some(({ name }) => name === "after") || undefined,
      {
        what: "the leader before to follow",
      },
    );
    t.regex(leader.logTail(200), /another manager leads in a newer epoch, and this one gives way/);

    // An export is imported on the machine that is in no cluster.
    const file = join(standby.directory, "export.jsonl");
    await standby.ctl("cluster", "export", file);
    const again = await standby.tryExec(["overlayctl", "cluster", "export", file]);
    t.regex(
      again.stderr,
      /export\.jsonl' exists, and no export is written over .*'overlayctl cluster export \/.*\.jsonl'/,
    );
    await leader.stopAgent();
    await standby.stopAgent();
    const passphrase = join(standby.directory, "data/identity/passphrase");
    const imported = await worker.ctl("cluster", "import", file, "--passphrase-file", passphrase);
    t.regex(imported, /This node leads cluster/);
    await untilWritten([worker], "imported");
    await hasNetworks(t, worker, ["copied", "after", "imported"]);

    // The managers before, which know nothing of that machine, go on without it until one of them hears of it.
    await Promise.all([leader.startAgent(), standby.startAgent()]);
    await untilWritten([standby], "meanwhile");
    const { token } = await worker.api.joinToken("worker");
    const joined = await standby.shell(`overlayctl join ${worker.address}:2377 --token ${token}`);
    t.is(joined.status, 0, joined.stderr);
    t.is(joined.stdout, "This node joined the cluster as a manager.\n");
    t.regex(standby.logTail(200), /given-way-.*it is not known what that one has of .*this one gives way/);
    for (const node of [standby, leader]) await hasNetworks(t, node, ["copied", "after", "imported"]);
    t.notRegex(await standby.ctl("network", "ls"), /meanwhile/);
  },
);
