#!/usr/bin/env node
// overlayd: the agent of one node.
import { Command } from "commander";
import { ConfigError, messageOf, PlatformError } from "../lib/errors.ts";
import { createLog } from "../lib/log.ts";
import { VERSION } from "../lib/version.ts";
import { type Agent, startAgent } from "./agent.ts";
import { type Config, describeConfigError, loadConfig } from "./config.ts";
import { leaveCluster, takeDown } from "./down.ts";

const EXIT_FAILED = 1;
const EXIT_USAGE = 2;
const LEAVE = "leave";

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
      await takeDown(loaded, createLog("warn"));
      console.log(`removed: tasks, links, routes, rules and flows of ${loaded.node.name}`);
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

async function runAgent(config: Config, newEpoch: boolean): Promise<void> {
  const log = createLog(config.log.level).with({ agent: config.node.name });
  let signal: string | undefined;
  let isStarting = true;
  let tell: (reason: string) => void = () => {};
  for (const name of ["SIGTERM", "SIGINT"]) {
    process.once(name, () => {
      if (isStarting) process.exit(EXIT_FAILED); // nothing is half done that the next start would not mend
      signal ??= name;
      tell(name);
    });
  }
  for (let isFirst = true; ; isFirst = false) {
    const whenTold = new Promise<string>((resolve) => {
      tell = resolve;
    });
    isStarting = true;
    const agent: Agent = await startAgent({
      config,
      log,
      newEpoch: newEpoch && isFirst,
      onLeave: () => tell(LEAVE),
      onFailure: (error) => fail(`the data path failed, nothing is carried: ${messageOf(error)}`, EXIT_FAILED),
    });
    isStarting = false;
    const reason = await whenTold;
    if (reason === LEAVE)
      log.warn("this node leaves its cluster: its tasks end, and its links, rules, flows and snapshot are removed");
    else log.info("stopping; links and flows stay for the next start", { reason });
    await agent.stop();
    if (reason !== LEAVE) process.exit(0);
    await leaveCluster(config, log);
    if (signal !== undefined) process.exit(0);
  }
}

function fail(message: string, status: number): never {
  console.error(`overlayd: ${message}`);
  process.exit(status);
}
