// A cluster whose leader answers on loopback with the certificates that its state knows: nodes join it as machines do.
import type { JoinAnswer, JoinRequest } from "../../src/cluster/join-protocol.ts";
import type { NodeIdentity } from "../../src/cluster/protocol.ts";
import type { AskedSettings } from "../../src/cluster/settings.ts";
import type { Role } from "../../src/cluster/trust-rows.ts";
import { foundCluster } from "../../src/leader/first-state.ts";
import { Leader } from "../../src/leader/leader.ts";
import type { Store } from "../../src/leader/store.ts";
import { systemClock } from "../../src/lib/clock.ts";
import { createLog, silentLog } from "../../src/lib/log.ts";
import { newId } from "../../src/lib/random.ts";
import { createRequest } from "../../src/trust/authority.ts";
import { createKey, publicKeyDigest } from "../../src/trust/certificates.ts";
import { Credentials } from "../../src/trust/credentials.ts";
import type { ManagerKeys } from "../../src/trust/identity-files.ts";
import { createSecret, formatToken } from "../../src/trust/token.ts";
import { MemoryStore } from "../fakes/memory-store.ts";
import { type Answer, managerKeys, SecureManager, type SecureManagerOptions } from "../fakes/secure-manager.ts";
import { LEADER_CONFIG } from "./cluster-fixture.ts";
import { identityOf } from "./fake-node.ts";

/** A line of the log. */
export type Logged = Record<string, unknown> & { msg: string };

interface SecureClusterOptions extends Partial<SecureManagerOptions> {
  settings?: AskedSettings;
  store?: Store;
}

export class SecureCluster {
  readonly manager: SecureManager;
  readonly leader: Leader;
  readonly logged: Logged[];

  private constructor(manager: SecureManager, logged: Logged[]) {
    this.manager = manager;
    this.leader = manager.leader;
    this.logged = logged;
  }

  static async start({
    settings = {},
    store = new MemoryStore(),
    ...options
  }: SecureClusterOptions = {}): Promise<SecureCluster> {
    let keys: ManagerKeys | undefined;
    const certify = async ({ id }: { id: string }) => {
      keys = await managerKeys(id);
      const { certificate } = keys.nodes;
      const trust = { bundle: [certificate], signer: publicKeyDigest(certificate) };
      return { trust, keyDigest: publicKeyDigest(createKey()), certificateExpires: Date.now() + 1e9 };
    };
    const chance = { now: Date.now(), newId, newSecret: createSecret };
    await foundCluster(store, { settings, identity: identityOf(1), certify }, chance);
    const clock = systemClock;
    const leader = new Leader({ store, clock, log: silentLog, newId, config: LEADER_CONFIG });
    await leader.start();
    const logged: Logged[] = [];
    const log = createLog("info", { write: (line: string) => void logged.push(JSON.parse(line)) });
    const manager = await SecureManager.start(leader, { clock, log, keys: keys!, ...options });
    return new SecureCluster(manager, logged);
  }

  token(role: Role): string {
    const { secret } = this.leader.state.tokens.get(role)!;
    return formatToken({ digest: publicKeyDigest(this.manager.keys.nodes.certificate), secret });
  }

  /** What a machine asks for when it joins. */
  async joinRequest(identity: NodeIdentity, role: Role, key = createKey()): Promise<JoinRequest> {
    return { token: this.token(role), request: await createRequest(key, identity.name), identity, now: Date.now() };
  }

  askToJoin(request: object): Promise<Answer> {
    return this.manager.ask(undefined, "POST", "/v1/join", request);
  }

  /** Has a node join. Throws what the manager refuses. */
  async join(identity: NodeIdentity, role: Role = "worker", key = createKey()): Promise<Member> {
    const { status, body } = await this.askToJoin(await this.joinRequest(identity, role, key));
    if (status !== 200) throw new Error(body.error);
    const answer = body as unknown as JoinAnswer;
    const { certificate, bundle, nodeId } = answer;
    return { id: nodeId, answer, credentials: new Credentials({ certificate, key, bundle }) };
  }

  async close(): Promise<void> {
    await this.leader.stop();
    await this.manager.close();
  }
}

/** A node that joined. */
export interface Member {
  id: string;
  answer: JoinAnswer;
  credentials: Credentials;
}
