// What the kernel says of a map or program, as it says it of what another process made.
import { readFileSync } from "node:fs";
import { type MapShape, mapNumbers } from "./bpf-map.ts";
import { BpfRequest } from "./bpf-request.ts";
import * as libc from "./libc.ts";

/** Bytes of struct bpf_map_info and bpf_prog_info that are read here. */
const INFO_BYTES = 80;
const NAME_BYTES = 16;
/** Where a map's info has what mapNumbers() returns. */
const NUMBERS_AT = [0, 8, 12, 16, 20] as const;

interface MapDescription {
  id: number;
  keyBytes: number;
  valueBytes: number;
  entries: number;
  name: string;
  /** Memory of the kernel that it takes now. */
  memoryBytes: number;
}

/** The facts of the map behind a descriptor of this process. */
export function describeMap(fd: number): MapDescription {
  const info = infoOf(fd, `map ${fd}`);
  return {
    id: info.readUInt32LE(4),
    keyBytes: info.readUInt32LE(8),
    valueBytes: info.readUInt32LE(12),
    entries: info.readUInt32LE(16),
    name: nameAt(info, 24),
    memoryBytes: Number(/^memlock:\s+(\d+)$/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, "utf8"))?.[1]),
  };
}

/** Whether the map behind `fd` is as createMap() would make it. */
export function hasShape(fd: number, shape: MapShape): boolean {
  const info = infoOf(fd, `map ${fd}`);
  return mapNumbers(shape).every((number, i) => info.readUInt32LE(NUMBERS_AT[i]!) === number);
}

/** The id of the program behind `fd`, by which links name it. */
export function programId(fd: number): number {
  return infoOf(fd, `program ${fd}`).readUInt32LE(4);
}

/** The name of the program with this id; undefined: it is gone, or this process may not ask (CAP_SYS_ADMIN). */
export function programName(id: number): string | undefined {
  const fd = new BpfRequest().u32(0, id).try("BPF_PROG_GET_FD_BY_ID");
  if (fd < 0) return undefined;
  try {
    return nameAt(infoOf(fd, `program ${id}`), 64);
  } finally {
    libc.close(fd);
  }
}

function infoOf(fd: number, what: string): Buffer {
  const request = new BpfRequest(INFO_BYTES).u32(0, fd).u32(4, INFO_BYTES);
  const info = request.pointToRoom(8, INFO_BYTES);
  request.call("BPF_OBJ_GET_INFO_BY_FD", what);
  return request.bytes.subarray(info);
}

function nameAt(info: Buffer, at: number): string {
  const end = info.indexOf(0, at);
  return info.toString("latin1", at, Math.min(end < 0 ? info.length : end, at + NAME_BYTES));
}
