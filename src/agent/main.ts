#!/usr/bin/env node
// overlayd: the agent of one node.
import { Command } from "commander";
import { aborted } from "../lib/clock.ts";
import { ConfigError, messageOf, PlatformError } from "../lib/errors.ts";
import { createLog } from "../lib/log.ts";
import { VERSION } from "../lib/version.ts";
import { type Agent, startAgent } from "./agent.ts";
import { type Config, describeConfigError, loadConfig } from "./config.ts";
import { finishLeaving, leaveCluster, takeDown } from "./down.ts";
import { readIdentity, withOwnName } from "./identity.ts";
import { waitForCluster } from "./waiting.ts";

const EXIT_FAILED = 1;
const EXIT_USAGE = 2;
const LEAVE = "overlayctl leave";

const program = new Command("overlayd")
  .description("One network and one stable address per service, for containers on many machines")
  .version(VERSION)
  .showSuggestionAfterError()
  .showHelpAfterError("(overlayd --help says more)")
  .exitOverride((error) => process.exit(error.exitCode === 0 ? 0 : EXIT_USAGE));

program
  .command("run", { isDefault: true })
  .description("run the agent of this node; SIGTERM stops it, and containers keep their links and flows")
  .requiredOption("--config <file>", "the configuration file, YAML")
  .option(
    "--new-epoch",
    "for one start of a manager whose store was restored from a backup: nodes take its state although theirs is newer, and changes since the backup are undone",
  )
  .action(({ config, newEpoch = false }: { config: string; newEpoch?: boolean }) =>
    guarded(config, (loaded) => runAgent(loaded, newEpoch)),
  );

program
  .command("down")
  .description("end this node's tasks, and remove links, routes, rules and flows of an agent that was stopped")
  .requiredOption("--config <file>", "the configuration file, YAML")
  .action(({ config }: { config: string }) =>
    guarded(config, async (loaded) => {
      const log = createLog("warn");
      const identity = await readIdentity(loaded, log);
      const own = identity === undefined ? loaded : withOwnName(loaded, identity.name, log);
      await takeDown(own, log);
      console.log(`removed: tasks, links, routes, rules and flows of ${own.node.name}`);
    }),
  );

void program.parseAsync();

/** Does it with the configuration; a person's mistake ends in one line that says what to do. */
async function guarded(path: string, work: (config: Config) => Promise<void>): Promise<void> {
  try {
    await work(loadConfig(path));
  } catch (error) {
    if (error instanceof ConfigError) return fail(describeConfigError(path, error), EXIT_USAGE);
    if (error instanceof PlatformError) return fail(error.message, EXIT_FAILED);
    throw error; // Node prints it with its stack, and exits with 1
  }
}

/** Waits for a cluster while the node is in none, then runs as its member; after `overlayctl leave` it waits again. */
async function runAgent(config: Config, newEpoch: boolean): Promise<void> {
  const log = createLog(config.log.level).with({ agent: config.node.name });
  const stopping = new AbortController();
  let isStarting = true;
  for (const name of ["SIGTERM", "SIGINT"]) {
    process.once(name, () => {
      if (isStarting) process.exit(0); // nothing is half done that the next start would not mend
      stopping.abort(name);
    });
  }
  await finishLeaving(config, log);
  for (let isFirst = true; ; isFirst = false) {
    let identity = await readIdentity(config, log);
    if (identity === undefined) {
      isStarting = false;
      await waitForCluster({ config, log, joinsByItself: isFirst, signal: stopping.signal });
      if (stopping.signal.aborted) process.exit(0);
      isStarting = true;
      identity = await readIdentity(config, log);
    }
    const own = withOwnName(config, identity!.name, log);
    const ending = new AbortController();
    const agent: Agent = await startAgent({
      ...{ config: own, log, identity: identity! },
      newEpoch: newEpoch && isFirst,
      onLeave: () => ending.abort(LEAVE),
      onStartAgain: (reason) => ending.abort(reason),
      onFailure: (error) => fail(`the data path failed, nothing is carried: ${messageOf(error)}`, EXIT_FAILED),
    });
    isStarting = false;
    await aborted(AbortSignal.any([ending.signal, stopping.signal]));
    const reason = String(ending.signal.reason ?? stopping.signal.reason);
    if (reason === LEAVE) {
      log.warn(
        "this node leaves its cluster: its tasks end, and its links, rules, flows, certificate and state are removed",
      );
    } else log.info("stopping; links and flows stay for the next start", { reason });
    await agent.stop();
    if (reason === LEAVE) await leaveCluster(own, log);
    if (stopping.signal.aborted) process.exit(0);
    isStarting = true;
  }
}

function fail(message: string, status: number): never {
  console.error(`overlayd: ${message}`);
  process.exit(status);
}
