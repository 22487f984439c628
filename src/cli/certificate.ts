// When certificates end, as listings show it, and the warning before.
import { expiryWarning } from "../trust/expiry.ts";
import type { Context } from "./context.ts";
import { formatDuration } from "./format.ts";
import type { Column } from "./table.ts";

/** The CERTIFICATE column: "valid 89 days", "ended 2 hours ago", or "-" where there is none. */
export function certificateColumn<T>(context: Context, expiresOf: (row: T) => number | null): Column<T> {
  return { header: "CERTIFICATE", value: (row) => words(expiresOf(row), context.now()) };
}

function words(expires: number | null, now: number): string {
  if (expires === null) return "-";
  const left = expires - now;
  return left > 0 ? `${formatDuration(left)} left` : `ended ${formatDuration(-left)} ago`;
}

/** Prints a line for each certificate that ends soon or has ended. */
export function warnOfExpiry(
  context: Context,
  rows: readonly { name: string; expires: number | null }[],
  what: "node" | "user",
): void {
  for (const { name, expires } of rows) {
    if (expires === null) continue;
    const warning = expiryWarning(`the certificate of ${what} '${name}'`, expires, context.now());
    if (warning !== undefined) context.err(`overlayctl: ${warning}: ${mendOf(what, name)}\n`);
  }
}

/** A node's agent renews its certificate after two thirds of its life: one that ends soon has found no manager for weeks. */
function mendOf(what: "node" | "user", name: string): string {
  if (what === "node") return "its agent renews it when it reaches a manager, and its log says why it does not";
  return `'overlayctl user rm ${name}' and 'overlayctl user add ${name} > FILE' make a new one`;
}
