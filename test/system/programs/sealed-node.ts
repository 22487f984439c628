// A data path alone, with keys that both ends know: `sealed-node sealed|clear OWN PEER DIRECTORY`. OWN and PEER are the last bytes of two
// nodes' addresses, on the underlay 192.0.2.0/24 and in the overlay network 10.192.32.0/20. It says "ready", and on SIGHUP its report,
// on SIGUSR1 it changes the keys that it seals with for the next ones, which the peer has from the beginning, and says "changed".
import { execFileSync } from "node:child_process";
import { join } from "node:path";
import type { InboundKey, OutboundKey } from "../../../src/datapath/associations.ts";
import { SOURCE_PORTS } from "../../../src/datapath/ports.ts";
import { cidr, type Ipv4, ipv4, maskOf } from "../../../src/lib/ip.ts";
import { createLog } from "../../../src/lib/log.ts";
import { DataPath } from "../../../src/worker/data-path.ts";

const [mode, own, peer, directory] = process.argv.slice(2) as [string, string, string, string];
const WORKERS = 2;
const ROUNDS = 50;
const FIRST_SPI = 0x8000_0000;
const DEVICE = "overlay0";
const VNI = 4096;
const SUBNET = cidr("10.192.32.0/20");
const MTU = 1450;

const vtepOf = (node: string): Ipv4 => ipv4(`192.0.2.${node}`);
const endpointOf = (node: string): string => `10.192.32.${node}`;
/** The SPI of what this socket of a node seals in a round: what its peer has chosen for it. */
const spiOf = (sender: string, round: number, socket: number): number =>
  FIRST_SPI + (Number(sender) << 16) + round * WORKERS * SOURCE_PORTS + socket;

function keyOf(spi: number): Uint8Array {
  const key = new Uint8Array(36).fill(7);
  new DataView(key.buffer).setUint32(0, spi);
  return key;
}

const sockets = Array.from({ length: WORKERS * SOURCE_PORTS }, (_, socket) => socket);
const outbound = (round: number): OutboundKey[] =>
  sockets.map((socket) => {
    const spi = spiOf(own, round, socket);
    return { spi, vtep: vtepOf(peer), socket, key: keyOf(spi) };
  });
const inbound: InboundKey[] = Array.from({ length: ROUNDS }, (_, round) =>
  sockets.map((socket) => {
    const spi = spiOf(peer, round, socket);
    return { spi, vtep: vtepOf(peer), key: keyOf(spi) };
  }),
).flat();

const ip = (...words: string[]): void => {
  execFileSync("ip", words);
};
const fail = (error: Error): never => {
  console.error(error);
  process.exit(1);
};
const dataPath = await DataPath.start({
  ...{ device: DEVICE, address: `192.0.2.${own}`, port: 4789, sealedPort: 4500, pool: cidr("10.192.0.0/10") },
  ...{ flowFile: join(directory, `flows-${own}`), flowCapacity: 4096, underlay: "auto", spinMicros: 0, priority: 0 },
  ...{ workers: WORKERS, newFlowsPerSecond: 10_000, log: createLog("warn"), onFailure: fail },
});
const isSealed = mode === "sealed" && { sealed: true as const };
const common = { vni: VNI, ...isSealed };
await dataPath.apply({
  isWhole: true,
  delete: [],
  put: [
    {
      ...{ kind: "node", vtep: vtepOf(own), ingress: ipv4(`10.192.0.${own}`), ingressVni: 2, isProvisional: false },
      ...{ poolBase: ipv4("10.192.0.0"), poolMask: maskOf(10), hostAddresses: [], heldPorts: [], mtu: MTU },
      ...{ mesh: true, nodeServices: true },
    },
    {
      kind: "network",
      base: SUBNET.base,
      mask: maskOf(SUBNET.bits),
      gateway: SUBNET.base + 1,
      internal: true,
      ...common,
    },
    { kind: "endpoint", ip: ipv4(endpointOf(own)), vtep: 0, ...common },
    { kind: "endpoint", ip: ipv4(endpointOf(peer)), vtep: vtepOf(peer), ...common },
    {
      ...{ kind: "peer", vtep: vtepOf(peer), port: 4789, sealedPort: 4500, ingress: ipv4(`10.192.0.${peer}`) },
      ...{ agent: true, lane: true, mesh: true },
    },
  ],
});
ip("address", "add", `${endpointOf(own)}/32`, "dev", "lo");
ip("link", "set", DEVICE, "mtu", String(isSealed ? MTU - 42 : MTU), "gso_max_size", "61000", "up");
ip("route", "add", "10.192.0.0/10", "dev", DEVICE, "src", endpointOf(own));
let round = 0;
if (mode === "sealed") await dataPath.putAssociations(inbound, outbound(round));
process.on("SIGHUP", async () => console.log(`report ${JSON.stringify(await dataPath.report())}`));
process.on("SIGUSR1", async () => {
  await dataPath.putAssociations([], outbound(++round));
  console.log(`changed ${round}`);
});
process.on("SIGTERM", async () => {
  await dataPath.stop();
  process.exit(0);
});
console.log("ready");
