// The files under /etc of a sandbox: resolv.conf, hosts and hostname.
import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { ContainerNaming } from "../cluster/container-naming.ts";
import { exists } from "../lib/exists.ts";
import { formatResolvConf } from "../lib/resolv-conf.ts";

const NODE_ETC = "/etc";

/** Writes files into `directory` that are to be bound over those of the node's /etc. `address`: the container's own. */
export async function writeEtc(directory: string, naming: ContainerNaming, address: string | null): Promise<void> {
  const { hostname, hosts, resolver } = naming;
  await mkdir(directory, { recursive: true });
  await writeFile(join(directory, "resolv.conf"), formatResolvConf(resolver));
  const own = hostname === null || address === null ? [] : [{ name: hostname, address }];
  const lines = [...own, ...hosts].map((host) => `${host.address}\t${host.name}\n`);
  // The lines that the service asks for go first: when several lines have a name, programs take the first.
  const node = lines.length === 0 ? undefined : await textOf(join(NODE_ETC, "hosts"));
  await put(join(directory, "hosts"), node === undefined ? undefined : lines.join("") + node);
  const canBind = hostname !== null && (await exists(join(NODE_ETC, "hostname")));
  await put(join(directory, "hostname"), canBind ? `${hostname}\n` : undefined);
}

async function put(path: string, text: string | undefined): Promise<void> {
  if (text === undefined) await rm(path, { force: true });
  else await writeFile(path, text);
}

async function textOf(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, "utf8");
  } catch {
    return undefined; // then there is no file to bind over
  }
}
