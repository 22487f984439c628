// A manager of the chaos runs, as a process: it campaigns, leads from its own member of etcd, and does what it is asked by
// messages. Its arguments are in JSON: endpoint, certificates, prefix and name.
import { once } from "node:events";
import { EtcdClient } from "../../src/leader/etcd-client.ts";
import type { EtcdTls } from "../../src/leader/etcd-endpoints.ts";
import { EtcdStore } from "../../src/leader/etcd-store.ts";
import { Leader } from "../../src/leader/leader.ts";
import { systemClock } from "../../src/lib/clock.ts";
import { messageOf, UserError } from "../../src/lib/errors.ts";
import { createLog, silentLog } from "../../src/lib/log.ts";
import { newId } from "../../src/lib/random.ts";
import { SEAL_KEY } from "../fakes/founding.ts";
import { LEADER_CONFIG } from "../leader/cluster-fixture.ts";

export interface ManagerArguments {
  name: string;
  endpoint: string;
  tls: EtcdTls;
  prefix: string;
}

/** Asks to add `write` to the state, or to read all of it. */
export interface Request {
  id: number;
  write?: string;
}

export interface Reply {
  id: number;
  outcome: "ok" | "fail" | "unknown";
  revision?: number;
  term?: string;
  seen?: string[];
  reason?: string;
}

const { name, endpoint, tls, prefix } = JSON.parse(process.argv[2]!) as ManagerArguments;
const log = process.env.CHAOS_LOG === undefined ? silentLog : createLog("info").with({ agent: name });
const client = new EtcdClient({ endpoints: [endpoint], tls });
const store = new EtcdStore({ client, prefix, sealKey: SEAL_KEY, self: name, clock: systemClock, log });
let leading: { leader: Leader; term: string } | undefined;
let current: Leader | undefined;
let isStopping = false;

async function leadForEver(): Promise<void> {
  for (let terms = 1; !isStopping; terms++) {
    const leader = new Leader({ store, clock: systemClock, log, newId, config: LEADER_CONFIG });
    current = leader;
    try {
      await leader.start();
    } catch (error) {
      log.warn("did not begin to lead", { reason: messageOf(error) });
      continue;
    }
    leading = { leader, term: `${name}/${process.pid}/${terms}` };
    if (!leader.over.aborted) await once(leader.over, "abort");
    await leader.stop();
  }
}

async function answer({ id, write }: Request): Promise<Reply> {
  if (leading === undefined) return { id, outcome: "fail", reason: "it does not lead" };
  const { leader, term } = leading;
  try {
    if (write === undefined) {
      leader.requireLeading();
      const { revision, services } = leader.state;
      return { id, outcome: "ok", revision, term, seen: [...services.values()].map((row) => row.name) };
    }
    const { revision } = await leader.execute({
      type: "service.create",
      ...{ name: write, replicas: 0, endpointMode: "dnsrr" },
      workload: { runtime: "process", command: ["true"] },
    });
    return { id, outcome: "ok", revision, term };
  } catch (error) {
    const isRefused = error instanceof UserError && error.code !== 504;
    return { id, outcome: isRefused ? "fail" : "unknown", reason: messageOf(error) };
  }
}

process.on("message", (request: Request) => {
  void answer(request).then((reply) => process.send!(reply));
});
process.once("disconnect", () => process.exit());
process.once("SIGTERM", async () => {
  isStopping = true;
  await current?.stop();
  await store.close();
  process.exit();
});
await leadForEver();
