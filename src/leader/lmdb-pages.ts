// Whether LMDB's trees lie within what is left of a file that was cut short. LMDB does not ask: where it finds a page of zeros it ends the
// process. The layout is that of LMDB's version 2 of its format, as lmdb-file.ts reads the header.
import type { FileHandle } from "node:fs/promises";

const HEADER_BYTES = 24;
const FLAGS_AT = 18;
/** Where the list of a page's nodes ends, in a branch and in a leaf; in an overflow page the number of its pages. */
const LOWER_AT = 20;
const Flag = { Branch: 1, Leaf: 2, Overflow: 4 } as const;
/** A leaf's value is on pages of its own, and the node has the number of the first. */
const BIG = 1;
const NODE_BYTES = 8;
const NONE = 0xffff_ffff_ffff_ffffn;

/** Where a meta record has the first pages of the tree of free pages and of that of the rows. */
export const ROOTS_AT = [88, 136] as const;

interface Cut {
  file: FileHandle;
  pageBytes: number;
  /** Bytes that the file has. */
  length: number;
}

/** Throws when a page of one of the trees is not there, or is none. */
export async function requirePages(cut: Cut, roots: readonly bigint[]): Promise<void> {
  const seen = new Set<number>(); // BOUNDED: by the file's pages
  const next = roots.filter((root) => root !== NONE).map(Number);
  for (let page = next.pop(); page !== undefined; page = next.pop()) {
    if (seen.has(page)) throw new Error(`page ${page} is in its trees twice`);
    seen.add(page);
    next.push(...(await pagesBelow(cut, page)));
  }
}

async function pagesBelow({ file, pageBytes, length }: Cut, number: number): Promise<number[]> {
  const isThere = (first: number, count: number): boolean => (first + count) * pageBytes <= length;
  if (!isThere(number, 1)) throw new Error(`it is cut short: page ${number} is missing`);
  const page = Buffer.alloc(pageBytes);
  await file.read(page, 0, pageBytes, number * pageBytes);
  const flags = page.readUInt16LE(FLAGS_AT);
  if ((flags & Flag.Overflow) !== 0) {
    const count = page.readUInt32LE(LOWER_AT);
    if (!isThere(number, count)) throw new Error(`it is cut short: page ${number + count - 1} is missing`);
    return [];
  }
  const nodes = nodesOf(page, number);
  if ((flags & Flag.Branch) !== 0) {
    return nodes.map((at) => page.readUInt32LE(at) + page.readUInt16LE(at + 4) * 2 ** 32);
  }
  if ((flags & Flag.Leaf) === 0) throw new Error(`page ${number} is no page of a tree`);
  return nodes.flatMap((at) => {
    const [nodeFlags, keyBytes] = [page.readUInt16LE(at + 4), page.readUInt16LE(at + 6)];
    return (nodeFlags & BIG) === 0 ? [] : [Number(page.readBigUInt64LE(at + NODE_BYTES + keyBytes))];
  });
}

/** Where the nodes of a page begin. */
function nodesOf(page: Buffer, number: number): number[] {
  const count = (page.readUInt16LE(LOWER_AT) - HEADER_BYTES) / 2;
  const at = Array.from({ length: Math.max(0, count) }, (_, i) => page.readUInt16LE(HEADER_BYTES + 2 * i));
  if (at.some((offset) => offset < HEADER_BYTES || offset + NODE_BYTES > page.length)) {
    throw new Error(`page ${number} has a node outside it`);
  }
  return at;
}
