// The agent of a node that is in no cluster: it answers the local socket, and waits until `init`, `join` or the
// configuration's `cluster.join` makes the node a member. DNS and the data path are off.
import { readFile } from "node:fs/promises";
import type { CheckedInit } from "../api/membership-schema.ts";
import { serveWaiting } from "../api/server.ts";
import { Backoff } from "../lib/backoff.ts";
import { aborted, delay, systemClock } from "../lib/clock.ts";
import { ConfigError, messageOf, UserError } from "../lib/errors.ts";
import type { Log } from "../lib/log.ts";
import { lockDevice } from "../linux/lock.ts";
import { checkNftables } from "../mesh/nftables-mesh.ts";
import { TrustError } from "../trust/trust-error.ts";
import type { SessionAddress } from "./compile-denied.ts";
import type { Config } from "./config.ts";
import { ownDataDirectory } from "./data-directory.ts";
import { found } from "./found.ts";
import { importCluster } from "./import.ts";
import { join } from "./join.ts";
import { requireAskedListen } from "./listening.ts";
import { asSession, managerAddressOf } from "./node-identity.ts";
import { pathsOf } from "./paths.ts";
import { findUnderlayLink } from "./underlay-link.ts";

const FIRST_RETRY_MS = 500;
const LONGEST_RETRY_MS = 30_000;

interface WaitingOptions {
  config: Config;
  log: Log;
  /** Whether the node joins as the configuration says; not after it was made to leave. */
  joinsByItself: boolean;
  /** Ends the waiting. */
  signal: AbortSignal;
}

/** Resolves when the node has an identity on its disk, or `signal` aborts. Throws PlatformError when the agent cannot serve. */
export async function waitForCluster(options: WaitingOptions): Promise<void> {
  const { config, log } = options;
  const lock = lockDevice(config.device, log);
  try {
    await ownDataDirectory(config.dataDir, log);
    // Rather now than when the node is a member, and its agent could not run.
    await checkNftables();
    await new Waiting(options).run();
  } finally {
    lock.release();
  }
}

class Waiting {
  readonly #options: WaitingOptions;
  readonly #over = new AbortController();
  /** Why the join of the configuration has not come about. */
  #problem: string | null = null;
  #isBusy = false;

  constructor(options: WaitingOptions) {
    this.#options = options;
    options.signal.addEventListener("abort", () => this.#over.abort());
    if (options.signal.aborted) this.#over.abort();
  }

  async run(): Promise<void> {
    const { config, log, joinsByItself } = this.#options;
    const { node, socket, cluster } = config;
    const self = this;
    const api = await serveWaiting(
      {
        nodeName: node.name,
        get problem() {
          return self.#problem;
        },
        init: (request) =>
          this.#become(async (place) => {
            await requireAskedListen(listenOf(place, request));
            return found(place, request);
          }),
        importCluster: (request) =>
          this.#become(async (place) => {
            await requireAskedListen(listenOf(place, {}));
            return importCluster(place, request);
          }),
        join: (request) => this.#become((place) => join(place, request)),
        answered: () => this.#over.abort(),
      },
      { socketPath: socket, log },
    );
    const isAlone = cluster.join === undefined || !joinsByItself;
    log.info(
      isAlone
        ? "waiting to join: run 'overlayctl init' or 'overlayctl join ADDRESS --token T'"
        : "waiting to join the cluster that the configuration names",
      { node: node.name, path: socket, ...(isAlone ? {} : { address: cluster.join!.address }) },
    );
    const joining = isAlone ? Promise.resolve() : this.#joinByItself(cluster.join!);
    await aborted(this.#over.signal);
    await joining;
    await api.close();
  }

  /** One at a time. Its success ends the waiting once the answer is out. */
  async #become<T>(work: (place: { config: Config; log: Log; address: string }) => Promise<T>): Promise<T> {
    const { config, log } = this.#options;
    if (this.#isBusy) throw new UserError(409, "another 'init' or 'join' is under way on this node");
    this.#isBusy = true;
    try {
      const { address } = await findUnderlayLink(config.node.address);
      return await work({ config, log, address });
    } catch (error) {
      if (error instanceof ConfigError) throw new UserError(400, error.message, { cause: error });
      if (error instanceof TrustError && error.reason === "damaged") {
        const mend = `bring it back from a backup, or move ${pathsOf(config).identity} away`;
        throw new UserError(409, `${error.message}; ${mend}`, { cause: error });
      }
      throw error;
    } finally {
      this.#isBusy = false;
    }
  }

  async #joinByItself({ address: manager, tokenFile }: { address: string; tokenFile: string }): Promise<void> {
    const { log } = this.#options;
    const { signal } = this.#over;
    const retry = new Backoff(FIRST_RETRY_MS, LONGEST_RETRY_MS);
    while (!signal.aborted) {
      try {
        const token = await readToken(tokenFile);
        await this.#become((place) => join(place, { manager, token }));
        return this.#over.abort();
      } catch (error) {
        const reason = messageOf(error);
        if (reason !== this.#problem) log.warn("cannot join the cluster; trying again", { address: manager, reason });
        this.#problem = reason;
        await delay(systemClock, retry.failed(), signal);
      }
    }
  }
}

/** Where the node is to answer as the manager that it becomes. */
function listenOf(
  { config, address }: { config: Config; address: string },
  { listen, advertise }: Pick<CheckedInit, "listen" | "advertise">,
): SessionAddress {
  return managerAddressOf(config, { listen: asSession(listen), advertise: asSession(advertise) }, address).listen;
}

async function readToken(path: string): Promise<string> {
  try {
    return (await readFile(path, "utf8")).trim();
  } catch (cause) {
    throw new UserError(503, `cluster.join.tokenFile: cannot read it: ${messageOf(cause)}`, { cause });
  }
}
