// nebula between the same two nodes, as Debian packages it: its own certificates, a static host map, a container's
// subnet behind each node by `unsafe_routes`.
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { stringify } from "yaml";
import { run } from "../test/system/command.ts";
import type { Lab } from "../test/system/lab.ts";
import { Background } from "./background.ts";
import type { Path } from "./path.ts";
import { addTunnelContainer, type TunnelEnd, tunnelEnds } from "./tunnels.ts";

const PORT = 4242;
/** MTU of the tunnel, as nebula sets it by default. */
const MTU = 1300;

export async function startNebula(lab: Lab, prefix: string): Promise<Path> {
  const directory = join(lab.directory, "nebula");
  mkdirSync(directory, { recursive: true });
  const ends = tunnelEnds(lab.nodes, "neb", 1);
  await run(["nebula-cert", "ca", "-name", "bench"], { cwd: directory });
  const programs: Background[] = [];
  for (const [i, end] of ends.entries()) {
    const { device, address, subnet } = end;
    const sign = ["nebula-cert", "sign", "-name", device, "-ip", `${address}/24`, "-subnets", subnet];
    await run(sign, { cwd: directory });
    const path = join(directory, `${device}.yaml`);
    writeFileSync(path, stringify(configOf(directory, end, ends[1 - i]!)));
    programs.push(await Background.start(end.node, ["nebula", "-config", path], /Nebula interface is active/));
  }
  const from = await addTunnelContainer(ends[0], ends[1], `${prefix}-nebula1`, MTU);
  const to = await addTunnelContainer(ends[1], ends[0], `${prefix}-nebula2`, MTU);
  return { from, to, address: to.address, agents: () => programs.map(({ pid }) => pid) };
}

function configOf(directory: string, end: TunnelEnd, other: TunnelEnd): object {
  const any = [{ port: "any", proto: "any", host: "any" }];
  return {
    pki: {
      ca: join(directory, "ca.crt"),
      cert: join(directory, `${end.device}.crt`),
      key: join(directory, `${end.device}.key`),
    },
    static_host_map: { [other.address]: [`${other.node.address}:${PORT}`] },
    lighthouse: { am_lighthouse: false },
    listen: { host: end.node.address, port: PORT },
    tun: { dev: end.device, mtu: MTU, unsafe_routes: [{ route: other.subnet, via: other.address }] },
    firewall: { outbound: any, inbound: any },
  };
}
