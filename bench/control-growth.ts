// Services are made through the API, a tenth of them at a time, in turn with Docker Swarm. The rates of the tenths show
// whether services that exist already make new ones slower.
import { messageOf } from "../src/lib/errors.ts";
import type { ControlCluster } from "./control-cluster.ts";
import type { Contender, Experiment } from "./experiment.ts";
import { LIMITS } from "./limits.ts";
import type { Swarm } from "./swarm.ts";

const AT_ONCE = 4;
const PARTS = 10;
const PART_MS = 120_000;
const OUT_OF_TIME = "the time was over";

export interface Growth {
  cluster: ControlCluster;
  /** undefined: it could not be started. */
  swarm: Swarm | undefined;
  /** How many there are in the end. */
  services: number;
  deadlineMs: number;
}

export function growExperiments({ cluster, swarm, services, deadlineMs }: Growth): Experiment[] {
  const part = services / PARTS;
  let end = Infinity;
  let swarmMade = 0;
  /** Why a tenth was not made to its end. */
  let stopped: string | undefined;
  const rates: [own: number[], swarm: number[]] = [[], []];
  const isComplete = (): boolean => rates[0].length === PARTS && stopped === undefined;
  const contender = (name: string, found: number[], create: () => Promise<unknown>): Contender => ({
    name,
    measure: async () => {
      // Docker Swarm does not have less time because we took long.
      const until = found === rates[0] ? end : performance.now() + PART_MS;
      const { perSecond, reason } = await makeServices(create, part, until);
      if (reason !== undefined) stopped = `${name}: ${reason}`;
      found.push(perSecond);
      return { made: perSecond };
    },
  });
  const own = contender("overlayd, three nodes", rates[0], () => cluster.createService());
  const other = contender("Docker Swarm, one node", rates[1], () => swarm!.createService(`many-${swarmMade++}`));
  const limit = swarm === undefined ? {} : { limit: LIMITS.servicesMade };
  const made = { id: "made", unit: "1/s", digits: 0, ...limit };
  const lastToFirst = {
    id: "last to first",
    unit: "ratio",
    digits: 2,
    alone: true,
    limit: LIMITS.lastThousand,
  } as const;
  const flatness = (name: string, found: readonly number[]): Contender => ({
    name,
    measure: async () => ({ "last to first": found.at(-1)! / found[0]! }),
  });
  const both = swarm === undefined ? [own] : [own, other];
  return [
    {
      group: "control",
      title: `services made through the API, ${AT_ONCE} at a time, in tenths of ${services}`,
      metrics: [made],
      contenders: both,
      rounds: PARTS,
      before: async () => {
        end = performance.now() + deadlineMs;
      },
      cutShort: () => {
        if (isComplete()) return swarm === undefined ? "beside nothing: Docker Swarm could not be started" : undefined;
        if (stopped === undefined && performance.now() < end) return undefined;
        return `only ${cluster.services} of ${services} services were made: ${stopped ?? OUT_OF_TIME}`;
      },
    },
    {
      group: "control",
      title: `services made a second, the last tenth against the first, ${services} in all`,
      metrics: [lastToFirst],
      contenders: both.map(({ name }, i) => flatness(name, rates[i]!)),
      rounds: 1,
      cutShort: () => (isComplete() ? undefined : `only ${cluster.services} services were made`),
    },
  ];
}

/** Makes `count` services, several at a time, until `end`. `reason`: why there are fewer. */
async function makeServices(
  create: () => Promise<unknown>,
  count: number,
  end: number,
): Promise<{ perSecond: number; reason: string | undefined }> {
  let reason: string | undefined;
  let begun = 0;
  let made = 0;
  const began = performance.now();
  const makeSome = async (): Promise<void> => {
    while (begun < count && reason === undefined) {
      if (performance.now() > end) {
        reason = OUT_OF_TIME;
        return;
      }
      begun++;
      await create();
      made++;
    }
  };
  const failed = (error: unknown): void => {
    reason = messageOf(error);
  };
  await Promise.all(Array.from({ length: AT_ONCE }, () => makeSome().catch(failed)));
  return { perSecond: (1000 * made) / (performance.now() - began), reason };
}
