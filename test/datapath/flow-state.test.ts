// How packets move a flow's state, by rows.
import test from "ava";
import { FlowState } from "../../src/datapath/flow-entries.ts";
import {
  firstState,
  isClosing,
  isOver,
  nextState,
  nextTcpState,
  timeoutSeconds,
} from "../../src/datapath/flow-state.ts";
import { ACK, FIN, PSH, RST, SYN } from "../fakes/ip-packets.ts";

const UDP = 17;
const TCP = 6;
const ICMP = 1;
const NAMES = Object.keys(FlowState);

/** ">" is a packet of the original direction, "<" one of the reply's. `fins` and `isOutstanding` are TCP's. */
type Move = [
  direction: ">" | "<",
  flags: number,
  state: keyof typeof FlowState,
  fins?: number,
  isOutstanding?: boolean,
];

const LIVES: [name: string, protocol: number, moves: Move[]][] = [
  [
    "a connection that the client closes",
    TCP,
    [
      [">", SYN, "SynSent", 0, true],
      ["<", SYN | ACK, "SynReceived", 0, true],
      [">", ACK, "Established"],
      [">", ACK | PSH, "Established", 0, true],
      ["<", ACK, "Established"],
      [">", FIN | ACK, "FinWait", 1, true],
      ["<", ACK, "CloseWait", 1],
      ["<", ACK | PSH, "FinWait", 1, true],
      [">", ACK, "CloseWait", 1],
      ["<", FIN | ACK, "LastAck", 3, true],
      [">", ACK, "TimeWait", 3],
      ["<", ACK, "TimeWait", 3],
    ],
  ],
  [
    "a connection that the server closes",
    TCP,
    [
      [">", SYN, "SynSent", 0, true],
      ["<", SYN | ACK, "SynReceived", 0, true],
      [">", ACK, "Established"],
      ["<", FIN | ACK, "FinWait", 2, true],
      [">", ACK, "CloseWait", 2],
      [">", FIN | ACK, "LastAck", 3, true],
      ["<", ACK, "TimeWait", 3],
    ],
  ],
  [
    "a SYN that is repeated, and its answer too",
    TCP,
    [
      [">", SYN, "SynSent", 0, true],
      [">", SYN, "SynSent", 0, true],
      ["<", SYN | ACK, "SynReceived", 0, true],
      ["<", SYN | ACK, "SynReceived", 0, true],
      [">", ACK, "Established"],
    ],
  ],
  [
    "a connection that is closed before it was established",
    TCP,
    [
      [">", SYN, "SynSent", 0, true],
      ["<", SYN | ACK, "SynReceived", 0, true],
      [">", FIN | ACK, "FinWait", 1, true],
    ],
  ],
  [
    "a connection whose SYN-ACK went another way",
    TCP,
    [
      [">", SYN, "SynSent", 0, true],
      ["<", ACK, "Established", 0, true],
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
    for (const [direction, flags, expected, fins = 0, isOutstanding = false] of moves) {
      const isReply = direction === "<";
      if (state === undefined) state = firstState(protocol, flags);
      else if (protocol === TCP) state = nextTcpState(state, isReply, flags, fins, isOutstanding);
      else state = nextState(state, isReply);
      t.is(NAMES[state], expected);
    }
  });
}

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

test("a new SYN takes the place of a flow that is over, and of none where something may still be on its way", (t) => {
  t.deepEqual(Object.values(FlowState).filter(isOver), [FlowState.TimeWait, FlowState.Closed]);
  t.deepEqual(Object.values(FlowState).filter(isClosing), [FlowState.LastAck, FlowState.TimeWait, FlowState.Closed]);
});
