// Runs Links and NftablesMesh in the network namespace that it is started in, as told by lines of JSON on standard
// input: {"call": "links.apply", "args": [...]}. Each is answered by a line: {"result"} or {"error", "mend"}.
import { subscribe } from "node:diagnostics_channel";
import { systemClock } from "../../../src/lib/clock.ts";
import { createLog } from "../../../src/lib/log.ts";
import { Links } from "../../../src/links/links.ts";
import { NftablesMesh } from "../../../src/mesh/nftables-mesh.ts";
import { answerCalls } from "./answer-calls.ts";

const log = createLog("info");
const links = new Links({ log, clock: systemClock, device: "overlay0" });
const mesh = new NftablesMesh({ log, clock: systemClock });

let processes = 0;
subscribe("child_process", () => processes++);

/** A test's arguments are what these take; JSON has no types to check it by. */
const calls: Record<string, (...args: never[]) => unknown> = {
  "links.prepare": links.prepare.bind(links),
  "links.apply": async (...args: Parameters<Links["apply"]>) => Object.fromEntries(await links.apply(...args)),
  "links.watch": links.watch.bind(links),
  "links.removeAll": links.removeAll.bind(links),
  "mesh.apply": mesh.apply.bind(mesh),
  "mesh.watch": mesh.watch.bind(mesh),
  "mesh.remove": mesh.remove.bind(mesh),
  "mesh.drops": mesh.drops.bind(mesh),
  /** How many processes were started until now. */
  processes: () => processes,
};

await answerCalls(calls);
await links.close();
await mesh.close();
