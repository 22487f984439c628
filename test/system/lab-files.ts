// The files that a lab gives its nodes: the commands that they type, and their agents' configuration.
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { stringify } from "yaml";

export function writeConfig(
  path: string,
  node: { name: string; address: string; directory: string; cluster?: object; settings: Record<string, unknown> },
): void {
  const { name, address, directory, cluster, settings } = node;
  const config: Record<string, unknown> = {
    node: { name, address },
    ...(cluster === undefined ? {} : { cluster }),
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
