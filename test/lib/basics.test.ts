// What everything stands on: errors that a person reads, log lines that can be searched, time and chance.
import test from "ava";
import { delay, machineMonotonic, systemClock } from "../../src/lib/clock.ts";
import { ConfigError, messageOf, PlatformError, UserError } from "../../src/lib/errors.ts";
import { createLog } from "../../src/lib/log.ts";
import { newId, secureRandom } from "../../src/lib/random.ts";
import { VirtualClock } from "../fakes/virtual-clock.ts";

test("errors name the thing and what is wrong with it, and keep their cause", (t) => {
  const cause = new Error("deeper");
  const user = new UserError(409, "the port is taken", { field: "ports.0", cause });
  t.deepEqual([user.code, user.field, user.cause], [409, "ports.0", cause]);
  const config = new ConfigError("node.address", "'10.0.0.300' is not an IPv4 address", { line: 3 });
  t.deepEqual([config.message, config.line], ["node.address: '10.0.0.300' is not an IPv4 address", 3]);
  const platform = new PlatformError("there is no TUN", "modprobe tun");
  t.deepEqual([platform.message, platform.mend], ["there is no TUN (modprobe tun)", "modprobe tun"]);
  t.is(messageOf(cause), "deeper");
  t.is(messageOf("just text"), "just text");
});

test("a log line is JSON with its fields; what is below the level is not written", (t) => {
  const lines: string[] = [];
  const log = createLog("info", { write: (line) => lines.push(line) });
  log.debug("not this");
  log.with({ node: "node1" }).warn("a peer is silent", { peer: "192.0.2.12", ms: 900 });
  log.error("it failed", { err: new Error("why") });
  t.is(lines.length, 2);
  const [first, second] = lines.map((line) => JSON.parse(line));
  t.like(first, { level: 40, node: "node1", peer: "192.0.2.12", ms: 900, msg: "a peer is silent" });
  t.regex(first.time, /^\d{4}-\d\d-\d\dT.*Z$/);
  t.like(second, { level: 50, err: { message: "why" } });
});

test("the machine's time goes on over a process's", (t) => {
  const uptime = (): number => Number(process.hrtime.bigint()) / 1e6;
  const before = uptime();
  const first = machineMonotonic();
  t.true(first > before - 1 && first < uptime() + 1, "both count from the machine's start");
  t.true(machineMonotonic() >= first);
});

test("a delay lasts as long as the clock says", async (t) => {
  const clock = new VirtualClock();
  let over = false;
  const waiting = delay(clock, 1000).then(() => {
    over = true;
  });
  await clock.advance(999);
  t.false(over);
  await clock.advance(1);
  await waiting;
  t.true(over);
});

test("a cancelled timer does not call", async (t) => {
  systemClock.after(0, () => t.fail()).cancel();
  await delay(systemClock, 1); // due no earlier than the other
  t.pass();
});

test("ids have 25 characters of a-z0-9, and no two are the same", (t) => {
  const ids = Array.from({ length: 200 }, () => newId());
  for (const id of ids) t.regex(id, /^[a-z0-9]{25}$/);
  t.is(new Set(ids).size, 200);
});

test("chance is from 0 to below 1", (t) => {
  const values = Array.from({ length: 200 }, () => secureRandom());
  t.true(values.every((value) => value >= 0 && value < 1));
  t.true(new Set(values).size > 190);
});
