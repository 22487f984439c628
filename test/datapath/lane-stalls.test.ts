// Which flows count as stalled in the express lane, and what becomes of their peer: by a flow table, and readings as a lane would give them.
import test from "ava";
import { Ride } from "../../src/datapath/express-marks.ts";
import { FlowState } from "../../src/datapath/flow-entries.ts";
import { FlowTable } from "../../src/datapath/flow-table.ts";
import { LaneStalls } from "../../src/datapath/lane-stalls.ts";
import { cidr, ipv4 } from "../../src/lib/ip.ts";
import { swapPorts } from "../../src/packet/packet.ts";
import { reserve } from "../fakes/flows.ts";

const PEER = ipv4("192.0.2.12");
const MINUTE_MS = 60_000;
const CAPACITY = 64;

/** A connection in the lane as its ends and the lane have it. Numbers are those of TCP. */
interface Flow {
  entry: number;
  version: number;
  sent: { packets: number; bytes: number; nextSequence: number; acknowledgment: number };
  received: { packets: number; bytes: number; nextSequence: number; acknowledgment: number };
}

class Rig {
  readonly table = FlowTable.open(new ArrayBuffer(FlowTable.bytesFor(CAPACITY)), CAPACITY, 7);
  readonly stalls = new LaneStalls(this.table, cidr("10.192.0.0/10"));
  readonly flows: Flow[] = []; // BOUNDED: by the test
  readonly avoided: string[] = []; // BOUNDED: by the test
  nowMs = 1_000_000;

  constructor() {
    this.stalls.onAvoid = () => this.avoided.push(this.stalls.avoided.length === 0 ? "none" : "peer");
  }

  /** `from` may be a client outside. */
  add(port = 40_000, from = "10.192.32.10"): Flow {
    const { table } = this;
    const [client, server, ports] = [ipv4(from), ipv4("10.192.32.20"), (port << 16) | 80];
    table.lock();
    const entry = reserve(table, [0, 6, client, server, ports], [4097, server, client, swapPorts(ports)]);
    table.setPath(entry, 0, PEER, 4097);
    table.setPath(entry + 1, PEER, 0, 4097);
    table.publish(entry, FlowState.Established);
    table.addRide(entry, Ride.Both | Ride.Judged);
    table.unlock();
    const numbers = { packets: 0, bytes: 0, nextSequence: 1000, acknowledgment: 1000 };
    const flow = { entry, version: table.versionOf(entry), sent: { ...numbers }, received: { ...numbers } };
    this.flows.push(flow);
    this.walk(0);
    return flow;
  }

  /** Data of this node's end in the lane: new, or sent again. */
  send(flow: Flow, bytes = 0): void {
    flow.sent.packets++;
    flow.sent.bytes += 40 + (bytes || 500);
    flow.sent.nextSequence += bytes;
  }

  /** What comes back in the lane: data if there are `bytes`, else an acknowledgment, of all that was sent if `acknowledges`. */
  receive(flow: Flow, { bytes = 0, acknowledges = true, again = false } = {}): void {
    flow.received.packets++;
    flow.received.bytes += 52 + bytes;
    if (!again) flow.received.nextSequence += bytes;
    if (acknowledges) flow.received.acknowledgment = flow.sent.nextSequence;
  }

  /** A walk through the lane after so long; an entry that has left it is not met. */
  walk(afterMs = 2000): boolean {
    this.nowMs += afterMs;
    const { table } = this;
    for (const { entry, version, sent, received } of this.flows) {
      for (const [side, counts] of [
        [entry, sent],
        [entry + 1, received],
      ] as const) {
        if (!table.isRiding(side, version)) continue;
        this.stalls.see(side, version, { ...counts, seenSeconds: 1 }, this.nowMs);
        table.takeCarried(side, counts.packets, counts.bytes);
        table.setNextSequence(side, counts.nextSequence);
        table.setAcknowledged(side ^ 1, counts.acknowledgment);
      }
    }
    return this.stalls.walked(this.nowMs);
  }

  /** The agent carries what comes back. */
  answerByAgent({ entry, sent }: Flow): void {
    this.table.setAcknowledged(entry, sent.nextSequence);
  }

  isIn({ entry }: Flow): boolean {
    return (this.table.rideOf(entry) & Ride.Both) === Ride.Both;
  }

  /** A flow sends, nothing comes back; until it has left the lane. */
  stall(flow: Flow): void {
    this.send(flow, 500);
    for (let i = 0; i < 3; i++) {
      this.walk();
      this.send(flow);
    }
    this.walk();
  }
}

test("a flow whose packets are sent again and get no answer leaves the lane; it goes on by the agent: the peer is avoided", (t) => {
  const rig = new Rig();
  const flow = rig.add();
  rig.stall(flow);
  t.false(rig.isIn(flow));
  t.true((rig.table.rideOf(flow.entry) & Ride.Stalled) !== 0, "it does not enter again at its next packet");
  t.deepEqual([rig.stalls.stalled, rig.avoided], [0, []], "the lane's fault is not shown yet");
  rig.answerByAgent(flow);
  rig.walk();
  t.deepEqual([rig.stalls.stalled, rig.avoided, rig.stalls.avoided], [1, ["peer"], [PEER]]);
});

test("an end that does not answer by the agent's way either has died: the flow may enter the lane again", (t) => {
  const rig = new Rig();
  const flow = rig.add();
  rig.stall(flow);
  for (let i = 0; i < 66; i++) rig.walk();
  t.is(rig.table.rideOf(flow.entry), Ride.Judged);
  rig.answerByAgent(flow);
  rig.walk();
  t.deepEqual([rig.stalls.stalled, rig.avoided], [0, []]);
});

test("a peer that repeats what this node has acknowledged does not get its acknowledgments: the flow leaves the lane", (t) => {
  const rig = new Rig();
  const flow = rig.add();
  rig.receive(flow, { bytes: 1000 });
  flow.sent.acknowledgment = flow.received.nextSequence;
  for (let i = 0; i < 5; i++) {
    rig.walk();
    rig.receive(flow, { bytes: 1000, again: true });
    flow.sent.packets++;
  }
  t.false(rig.isIn(flow));
  rig.table.setNextSequence(flow.entry + 1, flow.received.nextSequence + 1000);
  rig.walk();
  t.deepEqual(rig.stalls.avoided, [PEER]);
});

/** What happens between two walks. */
const HEALTHY: Record<string, (rig: Rig, flow: Flow) => void> = {
  "sends and is acknowledged": (rig, flow) => {
    rig.send(flow, 500);
    rig.receive(flow);
  },
  "has sent to an end that does not read, which acknowledges probes": (rig, flow) => {
    rig.send(flow);
    rig.receive(flow);
  },
  "gets acknowledgments that do not move, for its data came out of turn": (rig, flow) => {
    rig.send(flow, 500);
    rig.receive(flow, { acknowledges: false });
  },
  "is idle after all was acknowledged": () => {},
  "waits for an answer, and sends nothing again": (rig, flow) => {
    if (flow.sent.packets === 0) rig.send(flow, 500);
  },
  "gets keepalives": (rig, flow) => {
    rig.receive(flow);
    flow.sent.packets++;
  },
  "receives and acknowledges": (rig, flow) => {
    rig.receive(flow, { bytes: 1000 });
    flow.sent.acknowledgment = flow.received.nextSequence;
  },
};

test("what the peer repeats does not show that it hears this node, by the lane or by the agents", (t) => {
  const rig = new Rig();
  const flow = rig.add();
  rig.receive(flow, { bytes: 1000 });
  flow.sent.acknowledgment = flow.received.nextSequence;
  rig.send(flow, 500);
  for (let i = 0; i < 3; i++) {
    rig.walk();
    rig.send(flow);
    rig.table.count(flow.entry + 1, 1, 1052, 1); // as its agent sent it, and this node's took it
  }
  rig.walk();
  t.false(rig.isIn(flow));
  rig.answerByAgent(flow);
  rig.walk();
  t.deepEqual(rig.stalls.avoided, [PEER]);
});

for (const [title, step] of Object.entries(HEALTHY)) {
  test(`a flow stays in the lane that ${title}`, (t) => {
    const rig = new Rig();
    const flow = rig.add();
    for (let i = 0; i < 20; i++) {
      step(rig, flow);
      t.false(rig.walk());
    }
    t.true(rig.isIn(flow));
  });
}

test("a peer that is down, or was meanwhile, makes no flow suspected", (t) => {
  const rig = new Rig();
  const flow = rig.add();
  rig.stalls.setUnreachable([PEER], rig.nowMs);
  rig.stall(flow);
  t.true(rig.isIn(flow), "it is down");
  rig.send(flow);
  rig.walk();
  rig.stalls.setUnreachable([], rig.nowMs);
  rig.send(flow);
  rig.walk();
  t.true(rig.isIn(flow), "it was down when the flow stalled");
  rig.stall(flow);
  t.false(rig.isIn(flow), "it is up");
  rig.stalls.setUnreachable([PEER], rig.nowMs);
  rig.stalls.setUnreachable([], rig.nowMs);
  rig.answerByAgent(flow);
  rig.walk();
  t.deepEqual(rig.avoided, [], "what was away in between proves nothing");
});

test("of many flows one that stalls leaves the lane alone; with the second the peer is avoided", (t) => {
  const rig = new Rig();
  const [first, second, other] = [rig.add(1), rig.add(2), rig.add(3)];
  for (const [flow, avoided] of [
    [first, []],
    [second, ["peer"]],
  ] as const) {
    rig.send(flow, 500);
    for (let i = 0; i < 5; i++) {
      rig.send(other, 500);
      rig.receive(other);
      rig.walk();
      rig.send(flow);
    }
    t.false(rig.isIn(flow));
    rig.answerByAgent(flow);
    rig.walk();
    t.deepEqual(rig.avoided, avoided);
  }
  t.true(rig.isIn(other));
  t.is(rig.stalls.stalled, 2);
});

test("connections of clients outside may stall in their own networks: the peer is avoided when two did, and none got on", (t) => {
  const OUTSIDE = "203.0.113.9";
  for (const isAlone of [true, false]) {
    const rig = new Rig();
    const healthy = rig.add(39_999);
    for (const port of [40_000, 40_001, 40_002]) {
      const flow = rig.add(port, OUTSIDE);
      rig.send(flow, 500);
      for (let i = 0; i < 4; i++) {
        if (!isAlone) {
          rig.send(healthy, 500);
          rig.receive(healthy);
        }
        rig.walk();
        if (i < 3) rig.send(flow);
      }
      t.false(rig.isIn(flow));
      rig.answerByAgent(flow);
      rig.walk();
      t.deepEqual(rig.stalls.avoided, isAlone && port > 40_000 ? [PEER] : []);
      if (rig.stalls.avoided.length > 0) break;
    }
    t.is(rig.stalls.stalled, isAlone ? 2 : 3);
  }
});

test("a peer is tried again after five minutes; when its flows stall again it is avoided for twice as long", (t) => {
  const rig = new Rig();
  const stallAnew = (port: number): void => {
    const flow = rig.add(port);
    rig.stall(flow);
    rig.answerByAgent(flow);
    rig.walk();
  };
  stallAnew(1);
  rig.walk(5 * MINUTE_MS - 1);
  t.deepEqual(rig.avoided, ["peer"]);
  rig.walk(1);
  t.deepEqual(rig.avoided.splice(0), ["peer", "none"]);
  stallAnew(2);
  rig.walk(10 * MINUTE_MS - 1);
  t.deepEqual(rig.avoided, ["peer"]);
  rig.walk(1);
  t.deepEqual(rig.avoided.splice(0), ["peer", "none"]);
  rig.walk(11 * MINUTE_MS); // all went well
  stallAnew(3);
  rig.walk(5 * MINUTE_MS);
  t.deepEqual(rig.avoided, ["peer", "none"], "as at the first time");
});

test("a person lets flows try again at once", (t) => {
  const rig = new Rig();
  const flow = rig.add();
  rig.stall(flow);
  rig.answerByAgent(flow);
  rig.walk();
  rig.stalls.forget();
  t.deepEqual([rig.avoided, rig.stalls.avoided], [["peer", "none"], []]);
});

test("a person lets flows try again while one is on trial: what it shows then is held against nothing", (t) => {
  const rig = new Rig();
  const flow = rig.add();
  rig.stall(flow);
  rig.stalls.forget();
  t.is(rig.table.rideOf(flow.entry) & Ride.Stalled, 0, "it may enter again");
  rig.answerByAgent(flow);
  rig.walk();
  t.deepEqual([rig.stalls.stalled, rig.avoided, rig.stalls.avoided], [0, ["none"], []]);
});

test("another flow in the place of one that stalled is not taken for it", (t) => {
  const rig = new Rig();
  const flow = rig.add();
  rig.stall(flow);
  rig.table.lock();
  rig.table.removeLocked(flow.entry);
  rig.table.unlock();
  rig.flows.length = 0;
  const next = rig.add();
  t.is(next.entry, flow.entry);
  rig.table.setAcknowledged(next.entry, 77);
  rig.walk();
  t.deepEqual([rig.stalls.stalled, rig.isIn(next)], [0, true]);
});
