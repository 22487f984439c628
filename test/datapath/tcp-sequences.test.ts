// Only segments that its ends would take end a TCP flow or take its place. The attacker here can send in the client's name,
// but sees nothing of the connection.
import test from "ava";
import { ACK, FIN, type Fields, PSH, RST, SYN } from "../fakes/ip-packets.ts";
import type { FakeNodes } from "../fakes/nodes.ts";
import { rowsFor } from "../fakes/nodes.ts";
import { B, CLUSTER, cluster, send } from "../fakes/two-nodes.ts";

const OUTSIDE = "198.51.100.7";
const MESH_VIP = "10.192.0.100";
const TASK = "10.192.32.20";
const PORT = 5000;

/** The sequence numbers of the two sides' SYNs. */
const CLIENT_ISS = 1000;
const SERVER_ISS = 0xffff_fff0; // numbers wrap round on the way

interface Segment {
  flags: number;
  /** Relative to the sender's first number. */
  seq: number;
  /** Relative to the receiver's. */
  ack?: number;
  bytes?: number;
}

class Connection {
  readonly fake: FakeNodes;

  constructor(fake: FakeNodes) {
    this.fake = fake;
  }

  /** The segments that reach the task. */
  client({ flags, seq, ack = 0, bytes = 0 }: Segment) {
    return send(this.fake, 0, {
      ...{ source: OUTSIDE, destination: MESH_VIP, sourcePort: PORT, destinationPort: 9200, flags },
      ...{ sequence: CLIENT_ISS + seq, acknowledgment: SERVER_ISS + ack, payload: new Uint8Array(bytes) },
    }).out[1]!;
  }

  /** The segments that reach the client. */
  server({ flags, seq, ack = 0, bytes = 0 }: Segment) {
    const reply: Fields = {
      ...{ source: TASK, destination: OUTSIDE, sourcePort: 80, destinationPort: PORT, flags },
      ...{ sequence: SERVER_ISS + seq, acknowledgment: CLIENT_ISS + ack, payload: new Uint8Array(bytes) },
    };
    return send(this.fake, 1, reply).out[0]!;
  }

  /** The state of the flow on each node. */
  get states(): (string | undefined)[] {
    return this.fake.nodes.map((node) => node.flows().find(({ protocol }) => protocol === "tcp")?.state);
  }
}

/** An established connection with 100 bytes each way, all acknowledged. */
async function connected(): Promise<Connection> {
  const connection = new Connection(await cluster());
  connection.client({ flags: SYN, seq: 0 });
  connection.server({ flags: SYN | ACK, seq: 0, ack: 1 });
  connection.client({ flags: ACK | PSH, seq: 1, ack: 1, bytes: 100 });
  connection.server({ flags: ACK | PSH, seq: 1, ack: 101, bytes: 100 });
  connection.client({ flags: ACK, seq: 101, ack: 101 });
  return connection;
}

const both = (state: string) => [state, state];

for (const seq of [102, 100, 5000, 100_000, -70_000, 2 ** 31, 0]) {
  test(`a reset with another number than the next (${seq - 101} beside it) ends nothing, and passes`, async (t) => {
    const connection = await connected();
    t.is(connection.client({ flags: RST, seq }).length, 1, "its receiver judges it");
    t.deepEqual(connection.states, both("established"));
    await connection.fake.advance(15_000);
    t.is(connection.client({ flags: ACK, seq: 101, ack: 101, bytes: 10 }).length, 1);
    t.deepEqual(connection.states, both("established"));
  });
}

test("a forged reset and a forged SYN do not put another connection in the place of one that is open", async (t) => {
  const connection = await connected();
  connection.client({ flags: RST, seq: 77_777 });
  connection.client({ flags: SYN, seq: 99_999 });
  // The task answers the SYN with a challenge ACK, which reaches the real client.
  t.is(connection.server({ flags: ACK, seq: 101, ack: 101 }).length, 1);
  t.deepEqual(connection.states, both("established"));
  t.is(connection.server({ flags: ACK | PSH, seq: 101, ack: 101, bytes: 50 }).length, 1);
  t.is(connection.client({ flags: RST, seq: 101 }).length, 1);
  t.deepEqual(connection.states, both("closed"), "the numbers that the attacker named have moved nothing");
});

test("forged data moves no number: a reset behind it ends nothing", async (t) => {
  const connection = await connected();
  connection.client({ flags: ACK | PSH, seq: 40_000, ack: 101, bytes: 1000 });
  connection.client({ flags: RST, seq: 41_000 });
  t.deepEqual(connection.states, both("established"));
  connection.client({ flags: RST | ACK, seq: 101, ack: 101 });
  t.deepEqual(connection.states, both("closed"));
});

test("forged FINs close nothing", async (t) => {
  const connection = await connected();
  connection.client({ flags: FIN | ACK, seq: 40_000, ack: 101 });
  t.deepEqual(connection.states, both("established"));
  connection.server({ flags: FIN | ACK, seq: 101, ack: 101 });
  t.deepEqual(connection.states, both("fin-wait"));
});

test("a reset with the next number ends the flow, from either side", async (t) => {
  const byClient = await connected();
  byClient.client({ flags: RST, seq: 101 });
  t.deepEqual(byClient.states, both("closed"));
  const byServer = await connected();
  byServer.server({ flags: RST | ACK, seq: 101, ack: 101 });
  t.deepEqual(byServer.states, both("closed"));
});

test("a reset behind data that is not acknowledged yet ends the flow, and so does one before it", async (t) => {
  for (const seq of [1101, 101]) {
    const connection = await connected();
    connection.client({ flags: ACK | PSH, seq: 101, ack: 101, bytes: 1000 });
    connection.client({ flags: RST, seq });
    t.deepEqual(connection.states, both("closed"));
  }
});

test("a connection that is refused is closed; a refusal of something else is not one", async (t) => {
  const connection = new Connection(await cluster());
  connection.client({ flags: SYN, seq: 0 });
  connection.server({ flags: RST | ACK, seq: -SERVER_ISS, ack: 7 });
  t.deepEqual(connection.states, both("syn-sent"));
  connection.server({ flags: RST, seq: 1 });
  t.deepEqual(connection.states, both("syn-sent"));
  connection.server({ flags: RST | ACK, seq: -SERVER_ISS, ack: 1 });
  t.deepEqual(connection.states, both("closed"));
});

test("after a crash, a client with the same port connects by way of the challenge ACK", async (t) => {
  const connection = await connected();
  t.is(connection.client({ flags: SYN, seq: 500_000 }).length, 1);
  t.is(connection.server({ flags: ACK, seq: 101, ack: 101 }).length, 1);
  t.is(connection.client({ flags: RST, seq: 101 }).length, 1);
  t.deepEqual(connection.states, both("closed"));
  t.is(connection.client({ flags: SYN, seq: 500_000 }).length, 1);
  t.is(connection.server({ flags: SYN | ACK, seq: 800_000, ack: 500_001 }).length, 1);
  connection.client({ flags: ACK, seq: 500_001, ack: 800_001 });
  t.deepEqual(connection.states, both("established"));
});

test("a task that knows the connection no longer takes the client's new SYN, and the flow begins anew", async (t) => {
  const connection = await connected();
  t.is(connection.client({ flags: SYN, seq: 500_000 }).length, 1);
  t.deepEqual(connection.states, both("established"), "no other's word but the task's counts");
  t.is(connection.server({ flags: SYN | ACK, seq: 800_000, ack: 500_001 }).length, 1);
  t.deepEqual(connection.states, both("syn-received"));
  connection.client({ flags: ACK, seq: 500_001, ack: 800_001, bytes: 10 });
  t.deepEqual(connection.states, both("established"));
  connection.client({ flags: RST, seq: 500_011 });
  t.deepEqual(connection.states, both("closed"));
});

test("after TIME-WAIT the port is used again, also with lower numbers", async (t) => {
  const connection = await connected();
  connection.client({ flags: FIN | ACK, seq: 101, ack: 101 });
  t.deepEqual(connection.states, both("fin-wait"));
  connection.server({ flags: FIN | ACK, seq: 101, ack: 102 });
  t.deepEqual(connection.states, both("last-ack"));
  connection.client({ flags: ACK, seq: 102, ack: 102 });
  t.deepEqual(connection.states, both("time-wait"));
  connection.client({ flags: SYN, seq: -400 });
  t.deepEqual(connection.states, both("syn-sent"));
  connection.server({ flags: SYN | ACK, seq: 900_000, ack: -399 });
  connection.client({ flags: ACK, seq: -399, ack: 900_001 });
  t.deepEqual(connection.states, both("established"));
});

test("a SYN does not take the place of a flow whose last data is under way", async (t) => {
  const connection = await connected();
  connection.client({ flags: FIN | ACK, seq: 101, ack: 101 });
  connection.server({ flags: FIN | ACK | PSH, seq: 101, ack: 102, bytes: 1000 });
  t.deepEqual(connection.states, both("last-ack"));
  connection.client({ flags: SYN, seq: 77_777 });
  t.deepEqual(connection.states, both("last-ack"));
  connection.client({ flags: ACK, seq: 102, ack: 1102 });
  t.deepEqual(connection.states, both("time-wait"));
});

test("segments that the wire loses leave no number behind: FIN and reset count once they are acknowledged", async (t) => {
  const connection = await connected();
  const { fake } = connection;
  fake.wire.filter = () => [];
  connection.client({ flags: ACK, seq: 101, ack: 101, bytes: 1000 });
  fake.wire.filter = undefined;
  connection.client({ flags: ACK, seq: 1101, ack: 101, bytes: 1000 });
  connection.client({ flags: FIN | ACK, seq: 2101, ack: 101 });
  t.deepEqual(connection.states, ["fin-wait", "established"]);
  connection.client({ flags: ACK, seq: 101, ack: 101, bytes: 1000 });
  connection.server({ flags: ACK, seq: 101, ack: 2102 });
  t.deepEqual(connection.states, both("close-wait"));
});

test("half-closed connections are kept for an hour, and with something on its way as long as open ones", async (t) => {
  const idle = async (connection: Connection, seconds: number) => {
    await connection.fake.clock.advance(seconds * 1000);
    for (const { engine } of connection.fake.nodes) for (let i = 0; i < 200; i++) engine.tick();
    return connection.states;
  };
  const waits = await connected();
  waits.client({ flags: FIN | ACK, seq: 101, ack: 101 });
  waits.server({ flags: ACK, seq: 101, ack: 102 });
  t.deepEqual(await idle(waits, 3590), both("close-wait"));
  t.is(waits.server({ flags: ACK | PSH, seq: 101, ack: 102, bytes: 10 }).length, 1, "the answer comes late");
  t.deepEqual(waits.states, both("fin-wait"));
  t.deepEqual(await idle(waits, 86_400), both("fin-wait"));
  waits.client({ flags: ACK, seq: 102, ack: 111 });
  t.deepEqual(await idle(waits, 3700), [undefined, undefined]);
});

test("both sides have closed: the flow is kept for four minutes", async (t) => {
  const connection = await connected();
  connection.client({ flags: FIN | ACK, seq: 101, ack: 101 });
  connection.server({ flags: FIN | ACK, seq: 101, ack: 102 });
  connection.client({ flags: ACK, seq: 102, ack: 102 });
  await connection.fake.clock.advance(239_000);
  for (const { engine } of connection.fake.nodes) for (let i = 0; i < 200; i++) engine.tick();
  t.deepEqual(connection.states, both("time-wait"));
});

test("a flow that outlives the agent has its numbers still", async (t) => {
  const connection = await connected();
  connection.fake.restart(1).apply(rowsFor(CLUSTER, B));
  connection.client({ flags: RST, seq: 4711 });
  t.deepEqual(connection.states, both("established"));
  connection.client({ flags: RST, seq: 101 });
  t.deepEqual(connection.states, both("closed"));
});

test("met in mid-stream, a connection is judged by the numbers that it has then", async (t) => {
  const connection = new Connection(await cluster());
  connection.client({ flags: ACK | PSH, seq: 7000, ack: 9000, bytes: 10 });
  connection.client({ flags: RST, seq: 9999 });
  connection.server({ flags: RST, seq: 1 });
  t.deepEqual(connection.states, both("established"));
  connection.server({ flags: RST, seq: 9000 });
  t.deepEqual(connection.states, both("closed"));
});

test("a forged segment by way of another node does not take the connection away from the client's own", async (t) => {
  const OTHER = "192.0.2.13";
  const three = { ...CLUSTER, nodes: { ...CLUSTER.nodes, [OTHER]: "10.192.0.4" } };
  const fake = await cluster({}, three);
  const connection = new Connection(fake);
  connection.client({ flags: SYN, seq: 0 });
  connection.server({ flags: SYN | ACK, seq: 0, ack: 1 });
  connection.client({ flags: ACK | PSH, seq: 1, ack: 1, bytes: 100 });
  const by = (segment: Segment) =>
    send(fake, 2, {
      ...{ source: OUTSIDE, destination: MESH_VIP, sourcePort: PORT, destinationPort: 9200, flags: segment.flags },
      ...{ sequence: CLIENT_ISS + segment.seq, acknowledgment: SERVER_ISS + (segment.ack ?? 0) },
    });
  t.deepEqual(by({ flags: SYN, seq: 66_666 }).drops[1], { "spoofed-source": 1 });
  t.deepEqual(by({ flags: ACK, seq: 66_667, ack: 1 }).drops[1], { "spoofed-source": 1 });
  t.is(connection.server({ flags: ACK | PSH, seq: 1, ack: 101, bytes: 10 }).length, 1, "the client is where it was");
  t.is(by({ flags: ACK, seq: 101, ack: 11 }).out[1]!.length, 1, "the client itself may change its way");
  t.is(connection.server({ flags: ACK | PSH, seq: 11, ack: 101, bytes: 10 }).length, 0);
});
