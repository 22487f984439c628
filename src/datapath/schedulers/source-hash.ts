// Source hash: a client's connections go to one task, on whatever node they come in, while that task is there.
import type { Packet } from "../../packet/packet.ts";
import type { VipRow } from "../rows.ts";
import { clientHash } from "./hash.ts";
import { rendezvous } from "./rendezvous.ts";
import type { Candidates, Scheduler } from "./scheduler.ts";

export class SourceHash implements Scheduler {
  choose(vip: VipRow, candidates: Candidates, packet: Packet): number {
    return rendezvous(vip, candidates, clientHash(packet.source, vip.ip));
  }
}
