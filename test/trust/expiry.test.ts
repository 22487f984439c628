// When a certificate is renewed, when a person is warned, and which clocks are too far apart.
import test from "ava";
import { expiryWarning, renewalDue, requireSameClock } from "../../src/trust/expiry.ts";
import { DAY_MS, HOUR_MS } from "./cluster.ts";

const NOW = Date.UTC(2026, 10, 30, 12);

test("a certificate is renewed at two thirds of its life", (t) => {
  t.is(renewalDue({ begins: NOW, expires: NOW + 90 * DAY_MS }), NOW + 60 * DAY_MS);
});

const WARNINGS: [leftMs: number, warning: string | undefined][] = [
  [14 * DAY_MS + 1, undefined],
  [14 * DAY_MS, "it expires in 14 days, on 2026-12-14"],
  [DAY_MS, "it expires in 1 day, on 2026-12-01"],
  [HOUR_MS, "it expires in less than a day, on 2026-11-30"],
  [0, "it expired on 2026-11-30"],
  [-DAY_MS, "it expired on 2026-11-29"],
];
for (const [leftMs, warning] of WARNINGS) {
  test(`${leftMs / DAY_MS} days before its end, a certificate ${warning === undefined ? "warns of nothing" : "warns"}`, (t) => {
    t.is(expiryWarning("it", NOW + leftMs, NOW), warning);
  });
}

const CLOCKS: [offMs: number, message: RegExp][] = [
  [
    -2 * HOUR_MS,
    /clock is 2 h 0 min behind the manager's: it is 2026-11-30 10:00 UTC here and 2026-11-30 12:00 UTC there/,
  ],
  [2 * HOUR_MS, /clock is 2 h 0 min ahead of the manager's/],
  [-400 * DAY_MS, /clock is 400 days behind the manager's/],
];
for (const [offMs, message] of CLOCKS) {
  test(`a clock ${offMs / HOUR_MS} hours off is refused`, (t) => {
    t.throws(() => requireSameClock(NOW + offMs, NOW), { name: "UserError", message });
  });
}

test("a clock that is an hour off is taken", (t) => {
  t.notThrows(() => requireSameClock(NOW - HOUR_MS, NOW));
  t.notThrows(() => requireSameClock(NOW + HOUR_MS, NOW));
});
