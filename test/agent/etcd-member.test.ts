// A manager's etcd as a child of the agent, with Debian's etcd itself: adopted, joined by others, damaged and made anew,
// and the last one of three.
import { X509Certificate } from "node:crypto";
import { once } from "node:events";
import { open, readFile, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { getPriority } from "node:os";
import { join } from "node:path";
import { connect } from "node:tls";
import test from "ava";
import { type EtcdAccess, isGivenTo, ownEtcd, untilReady } from "../../src/agent/etcd-access.ts";
import { EtcdMember } from "../../src/agent/etcd-member.ts";
import { takeTrust } from "../../src/agent/store-trust.ts";
import { EtcdClient } from "../../src/leader/etcd-client.ts";
import { etcdPaths } from "../../src/leader/etcd-command.ts";
import { ETCD_COMMIT } from "../../src/leader/etcd-commit.ts";
import { EtcdMembers, type MemberCondition } from "../../src/leader/etcd-members.ts";
import { StoreAuthority } from "../../src/leader/store-authority.ts";
import { systemClock } from "../../src/lib/clock.ts";
import { UserError } from "../../src/lib/errors.ts";
import { silentLog } from "../../src/lib/log.ts";
import { type Authority, createAuthority, createRequest, issue } from "../../src/trust/authority.ts";
import { createKey, publicKeyDigest } from "../../src/trust/certificates.ts";
import { DEADLINE_MS, tryRun, waitFor } from "../system/command.ts";
import { temporaryDirectory } from "../temporary.ts";

const CLUSTER = "c".repeat(25);
const KEY = "/test";

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as { port: number };
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** Managers of one machine, each with an etcd of its own. */
class Managers {
  readonly members: EtcdMember[] = [];
  readonly #directory: string;
  bundle: readonly Authority[];
  signer: Authority;
  lacksKey = false;
  readonly #ports: { clientPort: number; peerPort: number }[] = [];
  readonly #alive = setInterval(() => {}, 60_000); // the clock's timers do not keep the process
  readonly #opened: EtcdAccess[] = [];

  private constructor(directory: string, authority: Authority) {
    this.#directory = directory;
    this.bundle = [authority];
    this.signer = authority;
  }

  static async make(count: number): Promise<Managers> {
    const directory = temporaryDirectory("member");
    const authority = await createAuthority({ clusterId: CLUSTER, purpose: "store", now: Date.now() });
    const managers = new Managers(directory, authority);
    for (let i = 0; i < count; i++) {
      managers.#ports.push({ clientPort: await freePort(), peerPort: await freePort() });
      managers.members.push(managers.open(i));
    }
    return managers;
  }

  /** As the next agent does. */
  open(i: number): EtcdMember {
    const nodeId = `n${i}`.padEnd(25, "0");
    return new EtcdMember({
      directory: this.directoryOf(i),
      binary: "etcd",
      owner: { clusterId: CLUSTER, nodeId, name: `node${i}`, address: "127.0.0.1" },
      trust: () => ({
        bundle: this.bundle.map(({ certificate }) => certificate),
        signer: publicKeyDigest(this.signer.certificate),
        authority: () => {
          if (this.lacksKey) throw new UserError(503, "this manager does not have the key");
          return this.signer;
        },
      }),
      ...this.#ports[i]!,
      clock: systemClock,
      log: silentLog,
    });
  }

  nextAuthority(): Promise<Authority> {
    return createAuthority({ clusterId: CLUSTER, purpose: "store", now: Date.now() });
  }

  directoryOf(i: number): string {
    return join(this.#directory, `${i}`);
  }

  async access(i: number): Promise<EtcdAccess> {
    const access = await ownEtcd(this.members[i]!);
    this.#opened.push(access);
    await untilReady(access, DEADLINE_MS, new AbortController().signal);
    return access;
  }

  async beginFirst(): Promise<EtcdAccess> {
    const [first] = this.members;
    await first!.begin({ state: "new", members: [{ name: first!.name, peerUrl: first!.peerUrl }] });
    return this.access(0);
  }

  reconciler({ client }: EtcdAccess): EtcdMembers {
    const rows = this.members.map((member, i) => ({
      id: member.name,
      name: `node${i}`,
      peerUrl: member.peerUrl,
      isReady: true,
    }));
    return new EtcdMembers({
      client,
      managers: () => rows,
      agentOf: (id) => {
        const member = this.members.find(({ name }) => name === id)!;
        return {
          check: async () => [],
          begin: (start) => member.begin(start),
          remove: () => member.remove(),
          condition: () => conditionOf(member),
        };
      },
      beforeChange: async () => {},
      clock: systemClock,
      log: silentLog,
    });
  }

  /** Steps until all members vote. */
  async untilAllVote(access: EtcdAccess): Promise<void> {
    const reconciler = this.reconciler(access);
    await waitFor(
      async () => {
        await reconciler.step().catch(() => false);
        const members = await access.client.members().catch(() => []);
        return (
          members.length === this.members.length && members.every(({ isLearner, name }) => !isLearner && name !== "")
        );
      },
      { what: "all members to vote" },
    );
  }

  async remove(): Promise<void> {
    for (const { close } of this.#opened) close();
    for (const member of this.members) await member.remove();
    await rm(this.#directory, { recursive: true, force: true });
    clearInterval(this.#alive);
  }
}

async function conditionOf(member: EtcdMember): Promise<MemberCondition> {
  const complaint = await member.complaint();
  if (complaint === undefined) return "well";
  return complaint.kind === "damaged" ? "damaged" : "ended";
}

async function put({ client }: EtcdAccess, value: string): Promise<void> {
  await client.txn({ compare: [], writes: [{ put: KEY, value }], otherwise: [] });
}

async function get({ client }: EtcdAccess): Promise<string | undefined> {
  return (await client.range({ key: KEY })).rows[0]?.value;
}

/** The pids of all processes that have its data, whoever started them. */
async function processesOf({ directory }: EtcdMember): Promise<string[]> {
  const { stdout } = await tryRun(["pgrep", "-f", `^etcd .*--data-dir=${directory}/`]);
  return stdout.split("\n").filter(Boolean);
}

function textOf(authorities: readonly Authority[]): string {
  return authorities.map(({ certificate }) => certificate).join("\n");
}

async function clientOf(authority: Authority): Promise<{ certificate: string; key: string }> {
  const key = createKey();
  const request = await createRequest(key, "client");
  const subject = { kind: "node", clusterId: CLUSTER, id: "x".repeat(25), name: "client", role: "manager" } as const;
  return { key, certificate: await issue(authority, { request, subject, now: Date.now() }) };
}

/** The certificate that it shows now. */
async function shownBy(member: EtcdMember): Promise<X509Certificate> {
  const { ca, certificate, key } = await member.certificate.credentials();
  const port = Number(member.endpoint.split(":")[1]);
  const socket = connect({ host: "127.0.0.1", port, ca, cert: certificate, key });
  await once(socket, "secureConnect");
  const shown = socket.getPeerX509Certificate()!;
  socket.destroy();
  return shown;
}

function pidOf({ status }: EtcdMember): number {
  if (status.state !== "running") throw new Error(`it is ${status.state}`);
  return status.pid;
}

test("a member takes the largest commit there is, and goes before ordinary programs", async (t) => {
  const managers = await Managers.make(1);
  try {
    const { client } = await managers.beginFirst();
    const writes = Array.from({ length: ETCD_COMMIT.rows + 1 }, (_, i) => ({ put: `/large/${i}`, value: "x" }));
    const { succeeded } = await client.txn({ compare: [], writes, otherwise: [] }, { timeoutMs: DEADLINE_MS });
    t.true(succeeded);
    const status = managers.members[0]!.status;
    const { pid } = status as Extract<typeof status, { state: "running" }>;
    t.is(getPriority(pid), -10);
    const autogroup = await readFile(`/proc/${pid}/autogroup`, "utf8").catch(() => "nice -10"); // a kernel without them
    t.regex(autogroup, /nice -10$/m);
  } finally {
    await managers.remove();
  }
});

test("a member goes on without its agent, is adopted by the next one, and is not begun twice", async (t) => {
  const managers = await Managers.make(1);
  await put(await managers.beginFirst(), "a");
  const pid = pidOf(managers.members[0]!);
  await t.throwsAsync(
    managers.members[0]!.begin({ state: "new", members: [{ name: "x", peerUrl: "https://127.0.0.1:1" }] }),
    {
      instanceOf: UserError,
      message: /node 'node0' has a member of etcd already/,
    },
  );
  await managers.members[0]!.leave();
  managers.members[0] = managers.open(0);
  await managers.members[0].resume();
  t.is(pidOf(managers.members[0]), pid);
  t.is(await get(await managers.access(0)), "a");
  await managers.members[0].stop();
  managers.members[0] = managers.open(0);
  await managers.members[0].resume();
  t.is(await get(await managers.access(0)), "a");
  await managers.members[0].remove();
  t.false(await managers.members[0].isThere());
  await managers.remove();
});

test("a member that the leader begins and removes while its own manager has it run is one process, then none", async (t) => {
  const managers = await Managers.make(1);
  const [member] = managers.members;
  const beginning = managers.beginFirst();
  await waitFor(() => member!.isThere(), { what: "it to be there before its process is", everyMs: 1 });
  t.true(await member!.resumeIfThere());
  await beginning;
  t.is((await processesOf(member!)).length, 1);
  const removing = member!.remove();
  t.false(await member!.resumeIfThere());
  await removing;
  t.deepEqual(await processesOf(member!), []);
  await managers.remove();
});

test("a new first member does not hear the members that an earlier attempt left", async (t) => {
  const managers = await Managers.make(3);
  const access = await managers.beginFirst();
  await managers.untilAllVote(access);
  await put(access, "old");
  const [first] = managers.members;
  const moved = {
    store: "etcd",
    id: (await access.client.status()).clusterId,
    cluster: { id: CLUSTER, epoch: 1 },
  } as const;
  t.true(await isGivenTo(access, moved));
  await first!.remove();
  t.false(await isGivenTo(access, moved), "it does not answer");
  const left = await managers.access(1);
  await put(left, "older"); // the two that are left have a leader, which knows the first one's address
  const anew = await managers.beginFirst();
  const pid = pidOf(first!);
  for (let i = 0; i < 20; i++) await put(left, `${i}`);
  await put(anew, "new");
  t.is(pidOf(first!), pid);
  t.is((await anew.client.members()).length, 1);
  t.is(await get(anew), "new");
  t.false(await isGivenTo(anew, moved), "it is another etcd, though of the same cluster");
  t.true(await isGivenTo(left, moved));
  t.is(await get(left), "19");
  await managers.remove();
});

test("a member whose renewal broke off between its key and its certificate gets both anew", async (t) => {
  const managers = await Managers.make(1);
  await put(await managers.beginFirst(), "a");
  await managers.members[0]!.stop();
  await writeFile(etcdPaths(managers.directoryOf(0)).key, createKey());
  managers.members[0] = managers.open(0);
  await managers.members[0].resume();
  t.is(await get(await managers.access(0)), "a");
  await managers.remove();
});

test("etcd reads its certificate at each connection, and the CAs that it trusts at its start: it is started again for those", async (t) => {
  const managers = await Managers.make(1);
  await put(await managers.beginFirst(), "a");
  const [member] = managers.members;
  const [first, next] = [managers.signer, await managers.nextAuthority()];
  const stranger = await clientOf(next);
  const asks = async (): Promise<string> => {
    const client = new EtcdClient({ endpoints: [member!.endpoint], tls: { ...stranger, ca: textOf([first, next]) } });
    try {
      return (await client.range({ key: KEY })).rows[0]!.value;
    } catch {
      return "refused";
    } finally {
      client.close();
    }
  };
  const pid = pidOf(member!);
  t.is(await asks(), "refused");
  await writeFile(etcdPaths(managers.directoryOf(0)).ca, textOf([first, next]));
  t.is(await asks(), "refused", "the file alone changes nothing");

  managers.bundle = [first, next];
  await member!.takeTrust();
  const access = await managers.access(0);
  t.not(pidOf(member!), pid);
  t.is(await asks(), "a");
  const both = pidOf(member!);
  managers.signer = next;
  await member!.takeTrust();
  t.is(pidOf(member!), both, "another certificate alone needs no start");
  t.is((await shownBy(member!)).issuer, new X509Certificate(next.certificate).subject);
  t.is(await get(access), "a");

  managers.bundle = [next];
  await member!.takeTrust();
  t.is(await get(await managers.access(0)), "a");
  t.deepEqual(await member!.trust(), member!.certificate.wanted);
  // The next agent adopts it as it is.
  const last = pidOf(member!);
  await member!.leave();
  managers.members[0] = managers.open(0);
  await managers.members[0].resume();
  t.is(pidOf(managers.members[0]), last);
  t.deepEqual(await managers.members[0].trust(), managers.members[0].certificate.wanted);
  await managers.remove();
});

test("a manager that lacks the key of the CA that signs goes on with what it has, and takes no others", async (t) => {
  const managers = await Managers.make(1);
  await put(await managers.beginFirst(), "a");
  const [first, next] = [managers.signer, await managers.nextAuthority()];
  managers.bundle = [first, next];
  managers.signer = next;
  managers.lacksKey = true;
  const [member] = managers.members;
  const pid = pidOf(member!);
  await t.throwsAsync(member!.takeTrust(), { instanceOf: UserError, message: /does not have the key/ });
  await member!.resume();
  t.is(pidOf(member!), pid);
  t.is(await get(await managers.access(0)), "a");
  await managers.remove();
});

test("the CA of three members is changed one after the other, and etcd takes writes between", async (t) => {
  const managers = await Managers.make(3);
  const access = await managers.beginFirst();
  await managers.untilAllVote(access);
  const [first, next] = [managers.signer, await managers.nextAuthority()];
  const clock = systemClock;
  const authority = new StoreAuthority({
    own: managers.members[0]!.name,
    wanted: () => managers.members[0]!.certificate.wanted,
    members: () =>
      Promise.all(
        managers.members.map(async (member) => ({
          ...{ id: member.name, name: member.name, condition: await conditionOf(member) },
          ...(await member.trust()),
        })),
      ),
    take: (id, wanted) => takeTrust(managers.members.find(({ name }) => name === id)!, wanted),
    ...{ clock, log: silentLog },
  });
  let count = 0;
  const settle = async (): Promise<void> => {
    let steps = 0;
    while (await authority.step()) {
      steps++;
      for (const i of [0, 1, 2]) {
        const through = await managers.access(i);
        await put(through, `${++count}`);
        t.is(await get(access), `${count}`);
      }
    }
    t.is(steps, 3);
    t.is(authority.problem, undefined);
  };
  managers.bundle = [first, next];
  await settle();
  managers.signer = next;
  await settle();
  t.deepEqual(await authority.notRenewed(publicKeyDigest(next.certificate)), []);
  managers.bundle = [next];
  await settle();
  t.deepEqual(await authority.trustingAnother(), []);
  await managers.remove();
});

test("no certificate, no answer: any user of the machine reaches the port", async (t) => {
  const managers = await Managers.make(1);
  await managers.beginFirst();
  await t.throwsAsync(fetch(`https://${managers.members[0]!.endpoint}/version`));
  await managers.remove();
});

test("of three, one that is killed comes back, and one with damaged data is made anew", async (t) => {
  const managers = await Managers.make(3);
  const access = await managers.beginFirst();
  await managers.untilAllVote(access);
  await put(access, "a");
  const [, second, third] = managers.members;
  const pid = pidOf(second!);
  process.kill(pid, "SIGKILL");
  await waitFor(() => second!.status.state === "running" && second!.status.pid !== pid, {
    what: "it to be started again",
  });
  t.is(await get(await managers.access(1)), "a");

  await third!.stop();
  const database = await open(join(third!.directory, "data/member/snap/db"), "r+");
  await database.write(Buffer.alloc(64 * 1024, 0xff), 0, 64 * 1024, 0);
  await database.close();
  await third!.resume();
  await waitFor(async () => (await conditionOf(third!)) === "damaged", { what: "the damage to be seen" });
  const reconciler = managers.reconciler(access);
  await reconciler.step();
  t.is((await access.client.members()).length, 2);
  await managers.untilAllVote(access);
  t.is(await get(await managers.access(2)), "a");
  await managers.remove();
});

test("a first member whose data is gone begins no cluster of its own", async (t) => {
  const managers = await Managers.make(1);
  await managers.beginFirst();
  const [member] = managers.members;
  await member!.stop();
  await rm(join(member!.directory, "data"), { recursive: true });
  await member!.resume();
  await waitFor(async () => (await conditionOf(member!)) === "damaged", { what: "the loss to be seen" });
  t.pass();
  await managers.remove();
});

test("the last of three members has all that was written, and leads alone", async (t) => {
  const managers = await Managers.make(3);
  const access = await managers.beginFirst();
  await managers.untilAllVote(access);
  await put(access, "a");
  await managers.members[1]!.remove();
  await managers.members[2]!.remove();
  await t.throwsAsync(put(access, "b"));
  await managers.members[0]!.forceNewCluster();
  await untilReady(access, DEADLINE_MS, new AbortController().signal);
  t.is(await get(access), "a");
  t.is((await access.client.members()).length, 1);
  const pid = pidOf(managers.members[0]!);
  await managers.members[0]!.resume();
  t.not(pidOf(managers.members[0]!), pid, "it runs without the option from then on");
  await untilReady(access, DEADLINE_MS, new AbortController().signal);
  await put(access, "c");
  await managers.remove();
});
