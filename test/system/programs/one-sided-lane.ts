// An express lane at one end of a flow alone: the lane's own program on a container's link, with one entry that it was given, which the
// agents know nothing of. It runs in the network namespace of the container's node.
// Arguments: LINK UNDERLAY-LINK SOURCE DESTINATION SOURCE-PORT DESTINATION-PORT VTEP PEER VNI OUTER-CHECKSUM (1 or 0). Prints `ready`.
// At SIGTERM it ends, and the lane with it; it prints how many packets and bytes went by the lane.
import { Origin } from "../../../src/express/layout.ts";
import { ipv4 } from "../../../src/lib/ip.ts";
import { ifindexOf } from "../../../src/linux/interfaces.ts";
import { makeTcxLink } from "../../../src/linux/tcx-link.ts";
import { LaneRig, ports, toPeer } from "../../express/lane-rig.ts";

const [link, underlay, source, destination, sourcePort, destinationPort, vtep, peer, vni, outerChecksum] =
  process.argv.slice(2) as [string, string, string, string, string, string, string, string, string, string];
const tuple = { source: ipv4(source), destination: ipv4(destination), ports: ports(+sourcePort, +destinationPort) };
const entry = toPeer({
  ...tuple,
  ...{ newSource: tuple.source, newDestination: tuple.destination, newPorts: tuple.ports },
  ...{ origin: ifindexOf(link)!, link: ifindexOf(underlay)!, vtep: ipv4(vtep), to: ipv4(peer), vni: +vni },
  hasOuterChecksum: outerChecksum === "1",
});
const rig = new LaneRig();
rig.enter(entry);
makeTcxLink(rig.program(Origin.Container), ifindexOf(link)!, { first: true });
const alive = setInterval(() => {}, 1000);
process.on("SIGTERM", () => {
  const { packets, bytes } = rig.counted(entry);
  console.log(`${packets} ${bytes}`);
  clearInterval(alive);
  process.exit(0);
});
console.log("ready");
