// Text that others wrote, made short enough to keep and to show.

/** The text cut to `max` characters; an ellipsis shows that a part was cut off. */
export function shortened(text: string, max: number): string {
  return text.length <= max ? text : `${text.slice(0, max - 1)}…`;
}
