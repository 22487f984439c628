// Runs the express lane's programs in the network namespace that it is started in, as told by lines of JSON on standard input:
// {"call": "enter", "args": [...]}. Each is answered by a line: {"result"} or {"error"}.
import { ControlPage } from "../../../src/express/control.ts";
import { type LaneEntry, writeKey, writeValue } from "../../../src/express/entry.ts";
import { fromContainer } from "../../../src/express/from-container.ts";
import { fromUnderlay } from "../../../src/express/from-underlay.ts";
import {
  CONTROL_SHAPE,
  ENTRANCES_SHAPE,
  flowsShape,
  GROUNDS_SHAPE,
  LED_SHAPE,
  Origin,
  Value,
} from "../../../src/express/layout.ts";
import { mapArray } from "../../../src/linux/bpf-array.ts";
import { BpfMap, createMap } from "../../../src/linux/bpf-map.ts";
import { loadProgram, ProgramType } from "../../../src/linux/bpf-program.ts";
import { makeTcxLink } from "../../../src/linux/tcx-link.ts";
import { PacketMemory } from "../../../src/packet/memory.ts";
import { groundSumOf } from "../../express/lane-rig.ts";
import { answerCalls } from "./answer-calls.ts";

const ENTRIES = 1024;
const FOREVER = 2n ** 62n;

const memory = new PacketMemory(1 << 20);
const { view } = memory;
const shape = flowsShape(ENTRIES);
const maps = {
  ...{ flows: createMap(shape), grounds: createMap(GROUNDS_SHAPE), control: createMap(CONTROL_SHAPE) },
  entrances: createMap(ENTRANCES_SHAPE),
  led: createMap(LED_SHAPE),
};
const flows = new BpfMap(memory, maps.flows, shape);
const grounds = new Int32Array(mapArray(maps.grounds, GROUNDS_SHAPE).buffer);
const control = new ControlPage(mapArray(maps.control, CONTROL_SHAPE).buffer);
control.turn(true);
control.lease(FOREVER);

const load = (name: string, code: Uint8Array): number => loadProgram({ type: ProgramType.SchedCls, name, code });
const attach = (program: number, link: number): void => {
  makeTcxLink(program, link);
};

/** A test's arguments are what these take. */
const calls: Record<string, (...args: never[]) => unknown> = {
  containers: (...links: number[]) => {
    const program = load("from_container", fromContainer(maps));
    for (const link of links) attach(program, link);
  },
  underlay: (link: number, port: number) => attach(load("from_underlay", fromUnderlay(maps, port)), link),
  goByLink: (byLink: boolean) => control.goByLink(byLink),
  enter: (entry: LaneEntry) => {
    writeKey(view, flows.key, entry);
    writeValue(view, flows.value, { ...entry, groundSum: groundSumOf(grounds, entry) });
    return flows.update();
  },
  leave: (entry: LaneEntry) => {
    writeKey(view, flows.key, entry);
    return flows.delete();
  },
  counted: (entry: LaneEntry) => {
    writeKey(view, flows.key, entry);
    flows.lookup();
    const at = (field: number): number => Number(view.getBigUint64(flows.value + field, true));
    return { packets: at(Value.Packets), bytes: at(Value.Bytes) };
  },
  passedOn: () => [Origin.Container, Origin.Underlay].map((origin) => Object.fromEntries(control.allPassedOn(origin))),
};

await answerCalls(calls);
