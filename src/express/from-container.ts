// The program at the host's end of a container's link: a packet of a flow that has an entry goes to the peer, to another
// container of this node, or to a client outside. All else goes on to the next program or filter: the agent's way.
import { Skb } from "../linux/bpf-abi.ts";
import { r1, r2 } from "../linux/bpf-assembler.ts";
import { ETHERNET_BYTES, EtherType, TYPE_AT } from "../packet/ethernet.ts";
import { IPV4_BYTES } from "../packet/ipv4.ts";
import { TCP_BYTES } from "../packet/tcp.ts";
import { account } from "./account.ts";
import { checkSize } from "./check-size.ts";
import { deliver } from "./deliver.ts";
import { encapsulate } from "./encapsulate.ts";
import { flow, frame, LaneAssembler, raw16, Stack, skb, stack } from "./lane-assembler.ts";
import { Flag, Key, type LaneMaps, Origin, Value } from "./layout.ts";
import { lookUp } from "./look-up.ts";
import { OVERHEAD_BYTES } from "./outer.ts";
import { parse } from "./parse.ts";
import { rewrite } from "./rewrite.ts";
import { refuseStrayChecksum } from "./stray-checksum.ts";
import { sendToClient } from "./to-client.ts";

const IP_AT = ETHERNET_BYTES;
const MAX_TOTAL_LENGTH = 65_535;

/** Its code, for the tcx ingress of each container's link. */
export function fromContainer(maps: LaneMaps): Uint8Array {
  const a = new LaneAssembler(maps, Origin.Container);
  a.mov(skb, r1);
  a.findFrame();
  a.pull(IP_AT + IPV4_BYTES + TCP_BYTES);
  a.needOrPassOn(ETHERNET_BYTES, "Length");
  a.load(2, r1, frame, TYPE_AT);
  a.passOn(r1, "ne", raw16(EtherType.Ipv4), "NotIpv4");
  a.load(4, r1, skb, Skb.VlanPresent);
  a.passOn(r1, "ne", 0, "Vlan"); // the agent's filter takes no tagged frame
  a.load(4, r1, skb, Skb.PktType);
  a.passOn(r1, "ne", 0, "OtherMac"); // the container that got it would not take it
  a.load(4, r1, skb, Skb.Ifindex);
  a.store(4, stack, Stack.Key + Key.Origin, r1);
  parse(a, IP_AT, 0);
  lookUp(a);
  a.load(4, r1, stack, Stack.Total);
  a.passOn(r1, "gt", MAX_TOTAL_LENGTH - OVERHEAD_BYTES, "TooBig"); // the outer header could not tell its length
  checkSize(a);
  refuseStrayChecksum(a, IP_AT + IPV4_BYTES);
  account(a, IP_AT + IPV4_BYTES, false);
  rewrite(a, IP_AT);
  a.load(2, r2, flow, Value.Flags);
  a.when(r2, "set", Flag.ToPeer, "to a peer");
  a.when(r2, "set", Flag.ToClient, "to a client");
  deliver(a, false); // what containers of one node send to each other is as large as they made it
  a.label("to a peer");
  encapsulate(a);
  a.label("to a client");
  sendToClient(a);
  return a.assemble();
}
