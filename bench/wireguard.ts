// wireguard-go between the same two nodes, as Debian packages it, set up through its configuration socket
// (https://www.wireguard.com/xplatform/).
import { generateKeyPairSync } from "node:crypto";
import { connect } from "node:net";
import type { Lab } from "../test/system/lab.ts";
import { Background } from "./background.ts";
import { batch } from "./kernel-vxlan.ts";
import type { Path } from "./path.ts";
import { addTunnelContainer, tunnelEnds } from "./tunnels.ts";

const PORT = 51820;
/** The underlay's 1500 less the headers of IPv4, UDP and WireGuard, as wg-quick computes it for IPv4. */
const MTU = 1440;

export async function startWireguard(lab: Lab, prefix: string): Promise<Path> {
  const ends = tunnelEnds(lab.nodes, "wgo", 2);
  const keys = [keyPair(), keyPair()] as const;
  const programs: Background[] = [];
  for (const [i, end] of ends.entries()) {
    const other = ends[1 - i]!;
    const { device, node, address } = end;
    const argv = ["wireguard-go", "--foreground", device];
    programs.push(await Background.start(node, ["env", "LOG_LEVEL=verbose", ...argv], /UAPI listener started/));
    await configure(device, [
      `private_key=${keys[i]!.privateKey}`,
      `listen_port=${PORT}`,
      `public_key=${keys[1 - i]!.publicKey}`,
      `endpoint=${other.node.address}:${PORT}`,
      `allowed_ip=${other.address}/32`,
      `allowed_ip=${other.subnet}`,
    ]);
    await batch(node, [`link set ${device} mtu ${MTU} up`, `address add ${address}/24 dev ${device}`]);
  }
  const from = await addTunnelContainer(ends[0], ends[1], `${prefix}-wireguard1`, MTU);
  const to = await addTunnelContainer(ends[1], ends[0], `${prefix}-wireguard2`, MTU);
  return { from, to, address: to.address, agents: () => programs.map(({ pid }) => pid) };
}

function keyPair(): { privateKey: string; publicKey: string } {
  const { privateKey, publicKey } = generateKeyPairSync("x25519");
  const hex = (part: string | undefined): string => Buffer.from(part!, "base64url").toString("hex");
  return {
    privateKey: hex(privateKey.export({ format: "jwk" }).d),
    publicKey: hex(publicKey.export({ format: "jwk" }).x),
  };
}

function configure(device: string, lines: readonly string[]): Promise<void> {
  return new Promise((resolve, reject) => {
    let answer = "";
    const socket = connect(`/var/run/wireguard/${device}.sock`);
    socket.setEncoding("utf8");
    socket.on("error", reject);
    socket.on("data", (text: string) => {
      answer += text;
      if (!answer.includes("\n\n")) return;
      socket.end();
      if (answer.trim() === "errno=0") resolve();
      else reject(new Error(`wireguard-go refused its configuration: ${answer.trim()}`));
    });
    socket.write(`set=1\n${lines.join("\n")}\n\n`);
  });
}
