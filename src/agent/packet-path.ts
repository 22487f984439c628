// The packet path and what answers names, started as the configuration says.
import { availableParallelism } from "node:os";
import type { NodeNaming } from "../cluster/container-naming.ts";
import type { AnswerCache } from "../dns/answer-cache.ts";
import { ResolvConf } from "../dns/resolv-conf.ts";
import { MOST_UNDER_WAY } from "../dns/resolver.ts";
import { DnsServer } from "../dns/server.ts";
import { systemClock } from "../lib/clock.ts";
import { messageOf } from "../lib/errors.ts";
import { cidr, type Ipv4, ipv4 } from "../lib/ip.ts";
import type { Log } from "../lib/log.ts";
import { Links } from "../links/links.ts";
import { raiseDescriptorLimit } from "../linux/descriptor-limit.ts";
import { openBoundUdp } from "../linux/udp-socket.ts";
import { checkNftables, NftablesMesh } from "../mesh/nftables-mesh.ts";
import { DataPath } from "../worker/data-path.ts";
import type { LaneSetup } from "../worker/protocol.ts";
import { absentLane, clearExpressLane, type ExpressLane, type NodeLane, openExpressLane } from "./express-lane.ts";
import { prepareFlowFile } from "./flow-file.ts";
import type { Host } from "./host.ts";
import { LaneDelivery } from "./lane-delivery.ts";
import { followStalls } from "./lane-stalls.ts";
import { LaneWays } from "./lane-ways.ts";
import type { Membership } from "./membership.ts";
import type { AgentOptions } from "./options.ts";
import type { Parts } from "./parts.ts";
import { pathsOf } from "./paths.ts";
import type { Sealing } from "./sealing.ts";

const DEFAULT_SPIN_MICROS = 50;
const MOST_DEFAULT_WORKERS = 4;
const DESCRIPTORS = 65_536;

export interface PacketPath {
  links: Links;
  /** Whether an earlier agent left links here. Another process may have removed them since. */
  adoptsLinks: boolean;
  /** Checks the machine for what can wait until packets go on. Throws PlatformError when the machine lacks something. */
  check(): Promise<void>;
  dataPath: DataPath;
  lane: NodeLane;
  mesh: NftablesMesh;
  dns: DnsServer;
  /** The node's naming now: its own resolv.conf may change. */
  naming(): NodeNaming;
}

type PacketPathOptions = Pick<AgentOptions, "config" | "identity" | "log" | "onFailure"> &
  Pick<Host, "address" | "mtu"> &
  Pick<Membership, "names" | "nodeState"> & { sealing: Sealing };

/**
 * Where an earlier agent left the TUN, this waits for no process but the one that looks at the TUN: what the machine must
 * have was there then, and check() looks again. Throws PlatformError when the machine lacks something.
 */
export async function startPacketPath(options: PacketPathOptions, parts: Parts): Promise<PacketPath> {
  const { config, identity, log, names, mtu } = options;
  const express = startExpressLane(options, parts);
  const onHostEnds = express.lane && ((indices: ReadonlyMap<string, number>) => express.lane?.setContainers(indices));
  const links = new Links({ log, clock: systemClock, device: config.device, onHostEnds });
  parts.add({ stop: () => links.close() });
  const prepare = async (): Promise<void> => {
    await checkNftables();
    await links.prepare(cidr(identity.settings.pool), mtu);
  };
  const adoptsLinks = await links.isAdoptable();
  if (!adoptsLinks) await prepare();
  const dataPath = await startDataPath(options, express.lane?.setup).catch(async (error: unknown) => {
    if (adoptsLinks) await prepare(); // it says better what is wrong with the device
    throw error;
  });
  parts.add(dataPath);
  if (dataPath.laneLack !== undefined) abandonLane(express, dataPath.laneLack, log);
  if (express.lane !== undefined) followWays(options, { lane: express.lane, links, dataPath }, parts);
  dataPath.onHealth = ({ unreachable }) => names.setUnreachable(unreachable);
  const mesh = new NftablesMesh({ log, clock: systemClock });
  parts.add({ stop: () => mesh.close() });
  const resolvConf = parts.add(new ResolvConf(systemClock));
  const dns = parts.add(startDns(options, resolvConf, dataPath));
  const naming = (): NodeNaming => ({ domain: identity.settings.domain, resolver: resolvConf.content });
  return {
    links,
    adoptsLinks,
    check: adoptsLinks ? prepare : async () => {},
    dataPath,
    lane: express.view,
    mesh,
    dns,
    naming,
  };
}

interface StartedLane {
  /** undefined where the agent carries every packet itself. */
  lane: ExpressLane | undefined;
  view: NodeLane;
}

function startExpressLane({ config, identity, log }: PacketPathOptions, parts: Parts): StartedLane {
  const { datapath, vxlan } = config;
  const directory = pathsOf(config).bpf;
  if (datapath.express === "off") {
    clearExpressLane(directory, log);
    const why = "'datapath.express' is off in the node's configuration; set it to auto, and start the agent again";
    return { lane: undefined, view: absentLane("disabled", why) };
  }
  const entries = datapath.expressFlows ?? 2 * datapath.flows;
  const pool = cidr(identity.settings.pool);
  const lane = openExpressLane({ directory, entries, port: vxlan.port, pool, clock: systemClock, log });
  if (typeof lane === "string") return withoutLane(lane, log);
  log.info(`the express lane is open${lane.isAdopted ? ", with the flows of the agent before" : ""}`, {
    count: entries,
  });
  return { lane: parts.add(lane), view: lane };
}

function withoutLane(reason: string, log: Log): StartedLane {
  log.info("no flow goes in the express lane, the agent carries all", { reason });
  return { lane: undefined, view: absentLane("unavailable", reason) };
}

/** No worker uses the lane, `why`. */
function abandonLane(express: StartedLane, why: string, log: Log): void {
  express.lane?.abandon();
  Object.assign(express, withoutLane(`a thread of the data path is refused what it takes: ${why}`, log));
}

/** Keeps the lane to the links that there are, and to their features. Its flows pass the agent once when theirs is another link. */
function followWays(
  { config, log, address, nodeState }: PacketPathOptions,
  { lane, links, dataPath }: { lane: ExpressLane; links: Links; dataPath: DataPath },
  parts: Parts,
): void {
  const delivery = new LaneDelivery({ lane, links, log });
  const onMoved = (addresses: readonly Ipv4[]): void => {
    dataPath.loseWays(addresses).catch((error: unknown) => {
      log.error("flows in the express lane may go out by a link that is gone", { reason: messageOf(error) });
    });
  };
  lane.onMoved = onMoved;
  const nameOf = (vtep: string) => [...nodeState.state.nodes.by("address", vtep)][0]?.name;
  followStalls({ log, lane, dataPath, nameOf });
  parts.add(
    new LaneWays({
      ...{ log, clock: systemClock, address, device: config.device, onMoved },
      peers: () => [...nodeState.state.nodes.values()].map((node) => ipv4(node.address)),
      onUnderlay: (link) => {
        lane.setUnderlay(link?.index);
        if (link !== undefined) delivery.look(link.name);
      },
      onEntrances: (entrances, device) => lane.setEntrances(entrances, device),
    }),
  );
}

function startDataPath(
  { config, identity, log, address, onFailure, sealing }: PacketPathOptions,
  express: LaneSetup | undefined,
): Promise<DataPath> {
  const { device, datapath } = config;
  return DataPath.start({
    device,
    address,
    port: config.vxlan.port,
    sealedPort: "why" in sealing ? undefined : sealing.ports.port,
    pool: cidr(identity.settings.pool),
    flowFile: prepareFlowFile(config, log),
    flowCapacity: datapath.flows,
    underlay: datapath.underlay,
    spinMicros: datapath.spinMicros ?? DEFAULT_SPIN_MICROS,
    priority: datapath.priority,
    workers: datapath.workers ?? defaultWorkers(),
    newFlowsPerSecond: datapath.newFlowsPerSecond,
    express,
    log,
    onFailure,
  });
}

/** Half of the processors: the containers want the rest, and a woken worker wants one that is free. */
function defaultWorkers(): number {
  return Math.max(1, Math.min(Math.floor(availableParallelism() / 2), MOST_DEFAULT_WORKERS));
}

/** Half of the files that may be open: sockets of clients, links and tasks' logs need the rest. */
function mostQuestions(log: Log): number {
  const files = raiseDescriptorLimit(DESCRIPTORS);
  const most = Math.min(MOST_UNDER_WAY, Math.floor(files / 2));
  if (most < MOST_UNDER_WAY)
    log.warn(
      `the agent may open only ${files} files, so it forwards at most ${most} DNS questions of containers at once, and the others wait: start it with LimitNOFILE=${DESCRIPTORS}, or after \`ulimit -n ${DESCRIPTORS}\``,
    );
  return most;
}

function startDns(
  { config, log, names }: PacketPathOptions,
  resolvConf: ResolvConf,
  answerCache: AnswerCache,
): DnsServer {
  const { resolvers = resolvConf.resolvers, forward } = config.dns;
  const sockets = { mostUnderWay: mostQuestions(log), openUdp: openBoundUdp };
  const dns = new DnsServer({ clock: systemClock, log, names, resolvers, forward, answerCache, ...sockets });
  if (config.dns.resolvers === undefined) {
    resolvConf.watch((found) => {
      dns.setResolvers(found);
      log.info("the node's resolvers have changed", { address: found.join(" ") });
    });
  }
  return dns;
}
