// When certificates are renewed, and when a person is warned that they were not; and clocks that are too far apart.
import { counted } from "../lib/counted.ts";
import { UserError } from "../lib/errors.ts";

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
const WARN_BEFORE_MS = 14 * DAY_MS;
/** A certificate begins this long before it is signed, so that a clock that is behind by less takes it. */
export const BACKDATED_MS = HOUR_MS;

/** When a certificate is to be renewed: at two thirds of its life. Wall-clock milliseconds. */
export function renewalDue({ begins, expires }: { begins: number; expires: number }): number {
  return begins + ((expires - begins) * 2) / 3;
}

/** A warning for a person; undefined while there is time. `what`: "the certificate of node 'node1'". */
export function expiryWarning(what: string, expires: number, now: number): string | undefined {
  const leftMs = expires - now;
  if (leftMs > WARN_BEFORE_MS) return undefined;
  if (leftMs <= 0) return `${what} expired on ${dayText(expires)}`;
  const days = Math.floor(leftMs / DAY_MS);
  const left = days === 0 ? "in less than a day" : `in ${counted(days, "day")}`;
  return `${what} expires ${left}, on ${dayText(expires)}`;
}

/** Throws UserError 400 when a joining node's clock is too far from the manager's for certificates to work. */
export function requireSameClock(nodeMs: number, managerMs: number): void {
  const apartMs = Math.abs(nodeMs - managerMs);
  if (apartMs <= BACKDATED_MS) return;
  const side = nodeMs < managerMs ? "behind" : "ahead of";
  throw new UserError(
    400,
    `this machine's clock is ${spanText(apartMs)} ${side} the manager's: it is ${timeText(nodeMs)} here and ` +
      `${timeText(managerMs)} there; set the wrong one right ('timedatectl' shows it) and join again`,
  );
}

/** Minutes are enough: "2026-11-30 12:05 UTC". */
export function timeText(ms: number): string {
  return `${new Date(ms).toISOString().slice(0, 16).replace("T", " ")} UTC`;
}

function dayText(ms: number): string {
  return new Date(ms).toISOString().slice(0, 10);
}

function spanText(ms: number): string {
  if (ms >= 2 * DAY_MS) return `${Math.floor(ms / DAY_MS)} days`;
  return `${Math.floor(ms / HOUR_MS)} h ${Math.floor((ms % HOUR_MS) / 60_000)} min`;
}
