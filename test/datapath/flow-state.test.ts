// How packets move a flow's state, by rows.
import test from "ava";
import { FlowState } from "../../src/datapath/flow-entries.ts";
import { firstState, isClosing, nextState, timeoutSeconds } from "../../src/datapath/flow-state.ts";
import { ACK, FIN, PSH, RST, SYN } from "../fakes/ip-packets.ts";

const UDP = 17;
const TCP = 6;
const ICMP = 1;
const NAMES = Object.keys(FlowState);

/** ">" is a packet of the original direction, "<" one of the reply's. */
type Move = [direction: ">" | "<", flags: number, state: keyof typeof FlowState];

const LIVES: [name: string, protocol: number, moves: Move[]][] = [
  [
    "a connection that the client closes",
    TCP,
    [
      [">", SYN, "SynSent"],
      ["<", SYN | ACK, "SynReceived"],
      [">", ACK, "Established"],
      [">", ACK | PSH, "Established"],
      ["<", ACK, "Established"],
      [">", FIN | ACK, "FinWait"],
      ["<", ACK, "FinWait"],
      ["<", FIN | ACK, "LastAck"],
      [">", ACK, "TimeWait"],
      ["<", ACK, "TimeWait"],
    ],
  ],
  [
    "a connection that the server closes",
    TCP,
    [
      [">", SYN, "SynSent"],
      ["<", SYN | ACK, "SynReceived"],
      [">", ACK, "Established"],
      ["<", FIN | ACK, "CloseWait"],
      [">", ACK, "CloseWait"],
      [">", ACK | PSH, "CloseWait"],
      ["<", ACK, "CloseWait"],
      [">", FIN | ACK, "LastAck"],
      ["<", ACK, "TimeWait"],
    ],
  ],
  [
    "a connection that is closed half and goes on the other way",
    TCP,
    [
      [">", ACK, "Established"],
      [">", FIN | ACK, "FinWait"],
      [">", FIN | ACK, "FinWait"],
      ["<", ACK | PSH, "FinWait"],
      ["<", FIN | ACK, "LastAck"],
      ["<", FIN | ACK, "LastAck"],
      [">", ACK, "TimeWait"],
    ],
  ],
  [
    "a SYN that is repeated, and its answer too",
    TCP,
    [
      [">", SYN, "SynSent"],
      [">", SYN, "SynSent"],
      ["<", SYN | ACK, "SynReceived"],
      ["<", SYN | ACK, "SynReceived"],
      [">", ACK, "Established"],
    ],
  ],
  [
    "a connection that is refused",
    TCP,
    [
      [">", SYN, "SynSent"],
      ["<", RST | ACK, "Closed"],
      [">", ACK, "Closed"],
    ],
  ],
  [
    "a connection that is reset",
    TCP,
    [
      [">", ACK, "Established"],
      ["<", RST, "Closed"],
    ],
  ],
  [
    "a connection that is closed before it was established, by the client",
    TCP,
    [
      [">", SYN, "SynSent"],
      ["<", SYN | ACK, "SynReceived"],
      [">", FIN | ACK, "FinWait"],
    ],
  ],
  [
    "a connection that is closed before it was established, by the server",
    TCP,
    [
      [">", SYN, "SynSent"],
      ["<", SYN | ACK, "SynReceived"],
      ["<", FIN | ACK, "CloseWait"],
    ],
  ],
  [
    "a connection whose SYN-ACK went another way",
    TCP,
    [
      [">", SYN, "SynSent"],
      ["<", ACK, "Established"],
    ],
  ],
  ["a connection that is met at its SYN-ACK", TCP, [[">", SYN | ACK, "Established"]]],
  ["a connection that begins with its end", TCP, [[">", RST, "Closed"]]],
  [
    "UDP",
    UDP,
    [
      [">", 0, "Unreplied"],
      [">", 0, "Unreplied"],
      ["<", 0, "Replied"],
      [">", 0, "Replied"],
    ],
  ],
  [
    "an echo",
    ICMP,
    [
      [">", 0, "Unreplied"],
      ["<", 0, "Replied"],
    ],
  ],
];

for (const [name, protocol, moves] of LIVES) {
  test(`states of ${name}`, (t) => {
    let state: FlowState | undefined;
    for (const [direction, flags, expected] of moves) {
      state = state === undefined ? firstState(protocol, flags) : nextState(state, direction === "<", flags);
      t.is(NAMES[state], expected);
    }
  });
}

test("a RST closes from every state of TCP, either way", (t) => {
  for (let state: number = FlowState.SynSent; state <= FlowState.Closed; state++) {
    for (const isReply of [false, true]) t.is(nextState(state as FlowState, isReply, RST | ACK), FlowState.Closed);
  }
});

test("a connection that closes is kept for four minutes, one that is closed half for an hour or longer", (t) => {
  const seconds = (state: keyof typeof FlowState, protocol: number): number =>
    timeoutSeconds(FlowState[state], protocol);
  t.is(seconds("SynSent", TCP), 120);
  t.is(seconds("SynReceived", TCP), 240);
  t.is(seconds("Established", TCP), 5 * 24 * 3600);
  t.is(seconds("FinWait", TCP), 5 * 24 * 3600);
  t.is(seconds("CloseWait", TCP), 3600);
  t.is(seconds("LastAck", TCP), 240);
  t.is(seconds("TimeWait", TCP), 240);
  t.is(seconds("Closed", TCP), 10);
  t.is(seconds("Unreplied", UDP), 30);
  t.is(seconds("Replied", UDP), 120);
  t.is(seconds("Unreplied", ICMP), 30);
  t.is(seconds("Replied", ICMP), 30);
  t.is(seconds("Replied", 47), 600);
});

test("a new SYN takes the place of a flow whose both sides have ended, and of no other", (t) => {
  const closing = Object.values(FlowState).filter(isClosing);
  t.deepEqual(closing, [FlowState.LastAck, FlowState.TimeWait, FlowState.Closed]);
});
