// Loads the lane's programs and runs both once, with the capabilities that it is started with; says `carried`.
import { Origin } from "../../src/express/layout.ts";
import { Tcx } from "../../src/linux/bpf-abi.ts";
import { ACK, ipPacket } from "../fakes/ip-packets.ts";
import { CLIENT_PORT, ethernet, fromPeer, LaneRig, LOCAL, REMOTE, SERVER_PORT, toPeer, vxlan } from "./lane-rig.ts";

const rig = new LaneRig();
rig.enter(toPeer());
rig.enter(fromPeer());
const client = { address: LOCAL, port: CLIENT_PORT };
const server = { address: REMOTE, port: SERVER_PORT };
const packet = (from: typeof client, to: typeof client): Uint8Array =>
  ipPacket({
    source: from.address,
    destination: to.address,
    sourcePort: from.port,
    destinationPort: to.port,
    flags: ACK,
  });
const out = rig.run(Origin.Container, ethernet(packet(client, server)));
const back = rig.run(Origin.Underlay, vxlan(packet(server, client)));
console.log(out.verdict === Tcx.Redirect && back.verdict === Tcx.Redirect ? "carried" : "passed on");
