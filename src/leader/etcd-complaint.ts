// Why an etcd ended, read from what it printed: JSON lines, and a Go program's panic after them.

/** What a manager does about it: nothing by itself, or begin the member anew. */
type ComplaintKind = "damaged" | "removed" | "full" | "other";

export interface EtcdComplaint {
  kind: ComplaintKind;
  /** In etcd's words. */
  text: string;
}

const REMOVAL = /permanently removed from the cluster|the member has been removed/i;

const KINDS: readonly [kind: ComplaintKind, pattern: RegExp][] = [
  ["full", /no space left on device|disk quota exceeded/i],
  ["removed", REMOVAL],
  [
    "damaged",
    new RegExp(
      [
        "invalid database|failed to open database|database file .* corrupt|page \\d+.*(invalid|already freed)|checksum error",
        "crc mismatch|failed to read WAL|cannot be repaired|unexpected EOF|walpb:|wal: |slice bounds out of range",
        "failed to recover|snap: |snapshot file .* (missing|doesn't exist)|failed to load.*snapshot|file does not exist",
        // Its data is gone: it would begin anew under a name that the others know.
        "has already been bootstrapped|error validating peerURLs|could not retrieve cluster information|tocommit\\(\\d+\\) is out of range",
      ].join("|"),
      "i",
    ),
  ],
];

const MAX_CHARS = 300;

/** The last reason in the text; undefined: there is none. */
export function complaintIn(printed: string): EtcdComplaint | undefined {
  const texts = printed.split("\n").flatMap((line) => reasonIn(line) ?? []);
  const last = texts.at(-1);
  if (last === undefined) return undefined;
  // The panic itself often says less than the line before it.
  const text = (last.startsWith("panic: ") ? [texts.at(-2), last] : [last])
    .filter(Boolean)
    .join("; ")
    .slice(0, MAX_CHARS);
  return { kind: KINDS.find(([, pattern]) => pattern.test(text))?.[0] ?? "other", text };
}

function reasonIn(line: string): string | undefined {
  if (line.startsWith("panic: ")) return line;
  if (!line.startsWith("{")) return undefined;
  try {
    const { level, msg, error } = JSON.parse(line) as Record<string, unknown>;
    const isLast = level === "fatal" || level === "panic" || REMOVAL.test(String(error));
    if (!isLast) return undefined;
    return [msg, error].filter((part) => typeof part === "string").join(": ");
  } catch {
    return undefined; // a line that is cut
  }
}
