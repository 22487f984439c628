// Text that others wrote, made short enough to keep and to show.

/** At most `max` characters; what was cut off is shown by an ellipsis. */
export function shortened(text: string, max: number): string {
  return text.length <= max ? text : `${text.slice(0, max - 1)}…`;
}
