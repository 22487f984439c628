// Rendezvous hashing (Thaler and Ravishankar, 1998), weighted: the task whose hash with the key is best. A task that comes
// or goes moves only the keys that it gains or loses.
import type { VipRow } from "../rows.ts";
import { mix } from "./hash.ts";
import type { Candidates } from "./scheduler.ts";

/** The index in `vip.tasks` of the best of the candidates for `key`. */
export function rendezvous(vip: VipRow, candidates: Candidates, key: number): number {
  const { tasks, balancing } = vip;
  let best = candidates.index[0]!;
  let bestScore = -1;
  for (let i = 0; i < candidates.count; i++) {
    const index = candidates.index[i]!;
    // Uniform in (0, 1), then exponential with the weight as its rate: the least of those wins by weight.
    const uniform = ((mix(key, tasks[index]!) >>> 0) + 0.5) / 4294967296;
    const score = balancing.weights[index]! / -Math.log(uniform);
    if (score > bestScore) {
      best = index;
      bestScore = score;
    }
  }
  return best;
}
