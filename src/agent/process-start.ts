// When a process started, proc(5): with its pid it names a process for good.
import { readFile } from "node:fs/promises";

/** Clock ticks since the machine started; undefined when there is no such process. */
export async function processStart(pid: number): Promise<number | undefined> {
  try {
    const stat = await readFile(`/proc/${pid}/stat`, "utf8");
    // The command, in parentheses, may hold spaces; field 22 is the 20th after it.
    return Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19]);
  } catch {
    return undefined;
  }
}
