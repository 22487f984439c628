// The lane's maps at the start of an agent: those that the agent before has left pinned, if they are as this agent makes them, else new
// ones. Flows whose entries are in the maps go on while there is no agent, and this agent counts on from there.
import { rmSync } from "node:fs";
import { join } from "node:path";
import type { Ipv4 } from "../lib/ip.ts";
import { mapArray } from "../linux/bpf-array.ts";
import { createMap, type MapShape } from "../linux/bpf-map.ts";
import { hasShape } from "../linux/bpf-objects.ts";
import { openPin, pin } from "../linux/bpf-pin.ts";
import * as libc from "../linux/libc.ts";
import { ControlPage } from "./control.ts";
import { loseEverything, loseGround } from "./grounds.ts";
import { CONTROL_SHAPE, ENTRANCES_SHAPE, flowsShape, GROUNDS_SHAPE, type LaneMaps, LED_SHAPE } from "./layout.ts";

const NAMES = ["flows", "grounds", "control", "entrances", "led"] as const;

/** Another version of the entries, or another size of the map. */
type Discarded = "layout" | "size";

export interface OpenedMaps {
  readonly maps: LaneMaps;
  /** They are those of the agent before. */
  readonly areAdopted: boolean;
  /** What this agent has thrown away: maps of an agent before that made them in another way. */
  readonly discarded: Discarded | undefined;
  readonly control: ControlPage;
  /** No entry that stands on the address is used any more, from now on. */
  lose(address: Ipv4): void;
  /** No entry is. */
  loseAll(): void;
  close(): void;
}

/** `entries` is what the map of flows takes. Without `pins` the maps end with this process. Throws SyscallError. */
export function openLaneMaps(entries: number, pins: string | undefined): OpenedMaps {
  const shapes = {
    flows: flowsShape(entries),
    grounds: GROUNDS_SHAPE,
    control: CONTROL_SHAPE,
    entrances: ENTRANCES_SHAPE,
    led: LED_SHAPE,
  };
  const adopted = pins === undefined ? undefined : adopt(shapes, pins);
  if (typeof adopted === "object") return adopted;
  const fds: number[] = [];
  try {
    for (const name of NAMES) fds.push(createMap(shapes[name]));
    const opened = withControl(fds, false, adopted);
    opened.control.claim();
    for (const [i, name] of NAMES.entries()) {
      if (pins === undefined) break;
      rmSync(join(pins, name), { force: true });
      pin(fds[i]!, join(pins, name));
    }
    return opened;
  } catch (error) {
    for (const fd of fds) libc.close(fd);
    throw error;
  }
}

/** undefined: maps are missing. */
function adopt(shapes: Record<(typeof NAMES)[number], MapShape>, pins: string): OpenedMaps | Discarded | undefined {
  const fds: number[] = [];
  for (const name of NAMES) {
    const fd = openMapPin(join(pins, name));
    if (fd === undefined) break;
    fds.push(fd);
    if (!hasShape(fd, shapes[name])) break;
  }
  if (fds.length === NAMES.length && hasShape(fds.at(-1)!, shapes.led)) {
    const opened = withControl(fds, true);
    if (opened.control.isOurs) {
      if (opened.control.isLeaseOver(process.hrtime.bigint())) opened.loseAll(); // a new lease does not bring back what an old one has ended
      return opened;
    }
    opened.close();
    return "layout";
  }
  const isOtherSize = fds.length === 1 && !hasShape(fds[0]!, shapes.flows);
  for (const fd of fds) libc.close(fd);
  if (fds.length === 0) return undefined;
  return isOtherSize ? "size" : "layout";
}

/** undefined: nothing is pinned there, or no map. */
function openMapPin(path: string): number | undefined {
  try {
    return openPin(path, "map");
  } catch (error) {
    if (error instanceof TypeError) return undefined;
    throw error;
  }
}

function withControl(
  [flows, grounds, control, entrances, led]: readonly number[],
  areAdopted: boolean,
  discarded?: Discarded,
): OpenedMaps {
  const maps = { flows: flows!, grounds: grounds!, control: control!, entrances: entrances!, led: led! };
  const page = mapArray(maps.control, CONTROL_SHAPE);
  const mapped = mapArray(maps.grounds, GROUNDS_SHAPE);
  const counters = new Int32Array(mapped.buffer);
  const close = (): void => {
    page.close();
    mapped.close();
    for (const name of NAMES) libc.close(maps[name]);
  };
  return {
    ...{ maps, areAdopted, discarded, control: new ControlPage(page.buffer), close },
    lose: (address) => loseGround(counters, address),
    loseAll: () => loseEverything(counters),
  };
}
