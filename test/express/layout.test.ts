// The lane's maps: fields that do not overlap, counters of their own for addresses, and a control page that says whose it is.
import test from "ava";
import { ControlPage } from "../../src/express/control.ts";
import { EVERYTHING, groundOf } from "../../src/express/grounds.ts";
import {
  CONTROL_SHAPE,
  Control,
  counterAt,
  GROUNDS,
  GROUNDS_OF_ENTRY,
  KEY_BYTES,
  Origin,
  PassedOn,
  VALUE_BYTES,
  Value,
} from "../../src/express/layout.ts";
import { ipv4 } from "../../src/lib/ip.ts";

const LENGTHS: Record<keyof typeof Value, number> = {
  ...{ Seen: 8, Packets: 8, Bytes: 8, Sequence: 4, Acknowledgment: 4, Flags: 2, Mtu: 2, Link: 4 },
  ...{ Source: 4, Destination: 4, Ports: 4, AddressDelta: 2, PortDelta: 2, OuterSource: 4, OuterDestination: 4 },
  ...{ OuterPorts: 4, VniWord: 4, Sender: 4, HeaderSum: 2, UdpSum: 2, Grounds: 2 * GROUNDS_OF_ENTRY, GroundSum: 4 },
};

test("the fields of an entry follow each other, each at a place that its size divides", (t) => {
  let end = 0;
  for (const [name, at] of Object.entries(Value).sort(([, a], [, b]) => a - b)) {
    const length = LENGTHS[name as keyof typeof Value];
    t.true(at >= end && at - end <= 2, `${name} at ${at} follows what ends at ${end}`);
    t.is(at % Math.min(length & -length, 8), 0, `${name} is aligned`);
    end = at + length;
  }
  t.is(end, VALUE_BYTES);
  t.true(VALUE_BYTES <= 96 && VALUE_BYTES % 8 === 0);
  t.is(KEY_BYTES, 20);
});

test("each reason has a counter of its own for each program", (t) => {
  const reasons = Object.keys(PassedOn) as PassedOn[];
  const places = Object.values(Origin).flatMap((origin) => reasons.map((reason) => counterAt(origin, reason)));
  t.is(new Set(places).size, Object.keys(Origin).length * reasons.length);
  t.true(Math.min(...places) >= Control.Counters && Math.max(...places) + 8 <= CONTROL_SHAPE.valueBytes);
});

test("addresses have counters of their own, as far as there are any; no address has that of everything", (t) => {
  const first = ipv4("10.192.32.0");
  const counters = Array.from({ length: 4096 }, (_, i) => groundOf(first + i));
  t.true(new Set(counters).size > 3800, `${new Set(counters).size} counters for the addresses of a network`);
  for (const address of [...Array.from({ length: 100_000 }, (_, i) => Math.imul(i, 0x01234567)), 0, -1]) {
    const index = groundOf(address);
    if (index === EVERYTHING || index >= GROUNDS || (index === 1) !== (address === 0)) t.fail(`${address}: ${index}`);
  }
  t.not(groundOf(ipv4("192.0.2.11")), groundOf(ipv4("192.0.2.12")));
});

test("a control page is an agent's own once it has claimed it", (t) => {
  const control = new ControlPage(new ArrayBuffer(CONTROL_SHAPE.valueBytes));
  t.false(control.isOurs);
  t.false(control.isOn);
  control.claim();
  control.turn(true);
  t.true(control.isOurs && control.isOn);
  t.is(control.allPassedOn(Origin.Container).size, 0);
});
