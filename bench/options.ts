// The arguments of `npm run bench`.
import { parseArgs } from "node:util";
import { UserError } from "../src/lib/errors.ts";

export const GROUPS = [
  "tcp",
  "udp",
  "rr",
  "cps",
  "dns",
  "ingress",
  "scale",
  "memory",
  "restart",
  "changes",
  "priority",
  "greedy",
  "express",
  "sealed",
  "control",
  "managers",
] as const;
export type Group = (typeof GROUPS)[number];

export interface BenchOptions {
  groups: readonly Group[];
  /** The commit whose agents are measured beside this tree's, instead of the kernel's path and others. */
  against: string | undefined;
  /** Measure nebula and wireguard-go beside it. */
  peers: boolean;
  rounds: number;
  /** Rounds where a ratio is near its bar; at least `rounds`. */
  nearBar: number;
  /** Length of one throughput measurement. */
  seconds: number;
  quick: boolean;
  /** Write docs/benchmarks.md from the last results instead of measuring. */
  document: boolean;
  /** Show where the agents' time goes in one of PROFILES, instead of measuring. */
  profile: Profile | undefined;
  /** Settings that replace those of the agents' `datapath` section. */
  datapath: Readonly<Record<string, number | string>>;
}

export const PROFILES = ["tcp", "mesh", "udp", "rr", "cps", "dns", "ingress"] as const;
export type Profile = (typeof PROFILES)[number];

/** Groups whose figures are of agents on two nodes, and so can be held against another commit's. */
export const AGAINST_GROUPS = [
  "tcp",
  "udp",
  "rr",
  "cps",
  "dns",
  "ingress",
  "restart",
  "changes",
  "priority",
  "greedy",
] as const satisfies readonly Group[];
const DEFAULT_AGAINST: readonly Group[] = ["tcp", "udp", "rr", "cps", "dns", "ingress"];

export const USAGE = `usage: npm run bench -- [--only ${GROUPS.join(",")}] [--peers] [--rounds N] [--pairs N] [--quick] [--datapath workers=1,express=auto]
       npm run bench -- --against COMMIT [--only ${AGAINST_GROUPS.join(",")}] [--rounds N] [--pairs N] [--quick]
       npm run bench -- --profile ${PROFILES.join("|")}
       npm run bench -- --document`;

const ROUNDS = 5;
const SECONDS = 4;
/** Pairs for a ratio near its bar: enough for an interval of the median that is narrower than their range. */
const PAIRS_NEAR_BAR = 25;
const QUICK_ROUNDS = 2;
const QUICK_SECONDS = 1;

/** Reads the arguments. Throws UserError that names the wrong one. */
export function parseOptions(argv: readonly string[]): BenchOptions {
  const { values } = readArguments(argv);
  const quick = values.quick ?? false;
  const pairs = values.pairs === undefined ? undefined : countOf("--pairs", values.pairs);
  const defaultRounds = pairs ?? (quick ? QUICK_ROUNDS : ROUNDS);
  const rounds = values.rounds === undefined ? defaultRounds : countOf("--rounds", values.rounds);
  const { against } = values;
  const possible: readonly Group[] = against === undefined ? GROUPS : AGAINST_GROUPS;
  const usual = against === undefined ? GROUPS : DEFAULT_AGAINST;
  if (against !== undefined && (values.peers || values.document || values.profile !== undefined)) {
    throw new UserError(400, "--against cannot be combined with --peers, --document or --profile");
  }
  const only = against === undefined ? "--only" : "--only, with --against";
  return {
    groups: values.only === undefined ? usual : values.only.split(",").map((word) => oneOf(possible, only, word)),
    against,
    peers: values.peers ?? false,
    rounds,
    nearBar: Math.max(rounds, pairs ?? (quick ? 0 : PAIRS_NEAR_BAR)),
    seconds: quick ? QUICK_SECONDS : SECONDS,
    quick,
    document: values.document ?? false,
    profile: values.profile === undefined ? undefined : oneOf(PROFILES, "--profile", values.profile),
    datapath: values.datapath === undefined ? {} : Object.fromEntries(values.datapath.split(",").map(settingOf)),
  };
}

function readArguments(argv: readonly string[]) {
  try {
    return parseArgs({
      args: [...argv],
      options: {
        only: { type: "string" },
        against: { type: "string" },
        peers: { type: "boolean" },
        rounds: { type: "string" },
        pairs: { type: "string" },
        quick: { type: "boolean" },
        document: { type: "boolean" },
        profile: { type: "string" },
        datapath: { type: "string" },
      },
    });
  } catch (cause) {
    throw new UserError(400, (cause as Error).message, { cause });
  }
}

function oneOf<T extends string>(words: readonly T[], flag: string, word: string): T {
  const found = words.find((known) => known === word);
  if (found === undefined) throw new UserError(400, `${flag}: '${word}' is not one of ${words.join(", ")}`);
  return found;
}

function settingOf(text: string): [name: string, value: number | string] {
  const match = /^([a-z]+)=(?:(\d{1,9})|([a-z]+))$/i.exec(text);
  if (match === null) throw new UserError(400, `--datapath: '${text}' is not NAME=NUMBER or NAME=WORD`);
  return [match[1]!, match[2] === undefined ? match[3]! : Number(match[2])];
}

function countOf(flag: string, text: string): number {
  if (!/^[1-9]\d{0,2}$/.test(text)) throw new UserError(400, `${flag}: '${text}' is not a number from 1 to 999`);
  return Number(text);
}
