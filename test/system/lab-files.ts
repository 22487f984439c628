// The files that a lab gives its nodes: the commands that they type, and their agents' configuration.
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parse, stringify } from "yaml";

/** What OVERLAYD_TEST_LANE says, `auto` or `off`, of the express lane of agents that no test has configured; undefined: their default. */
export const LANE = process.env.OVERLAYD_TEST_LANE;
const LANE_SETTINGS = LANE === undefined ? {} : { datapath: { express: LANE } };

/** The configuration at `path`, or a copy of it at `copy` with what OVERLAYD_TEST_LANE says. */
export function configured(path: string, copy: string): string {
  if (LANE === undefined) return path;
  writeFileSync(copy, stringify({ ...LANE_SETTINGS, ...(parse(readFileSync(path, "utf8")) as object) }));
  return copy;
}

export function writeConfig(
  path: string,
  node: { name: string; address: string; directory: string; cluster?: object; settings: Record<string, unknown> },
): void {
  const { name, address, directory, cluster, settings } = node;
  const config: Record<string, unknown> = {
    node: { name, address },
    ...(cluster === undefined ? LANE_SETTINGS : { cluster }), // a build before the express lane would refuse the setting
    dataDir: join(directory, "data"),
    socket: join(directory, "overlayd.sock"),
  };
  for (const [section, value] of Object.entries(settings)) {
    const own = config[section];
    config[section] = typeof own === "object" ? { ...own, ...(value as object) } : value;
  }
  writeFileSync(path, stringify(config));
}

export function writeCommand(path: string, script: string): void {
  writeFileSync(path, `#!/bin/sh\nexec "${process.execPath}" "${script}" "$@"\n`, { mode: 0o755 });
}
