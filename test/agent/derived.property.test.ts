// Law 1: after any changes, in any order, the rows in force equal those that are computed anew from the state alone, from
// every node's point of view.
import { isDeepStrictEqual } from "node:util";
import test from "ava";
import fc from "fast-check";
import { compileLinks } from "../../src/agent/compile-links.ts";
import { compileMesh } from "../../src/agent/compile-mesh.ts";
import type { Viewpoint } from "../../src/agent/compile-tables.ts";
import { compileTasks } from "../../src/agent/compile-tasks.ts";
import { addConcerns, type Concern } from "../../src/agent/concerns.ts";
import { Derived } from "../../src/agent/derived.ts";
import { StorePeers } from "../../src/agent/store-peers.ts";
import { addUnits, type DirtyUnits } from "../../src/agent/units.ts";
import type { Change } from "../../src/cluster/schema.ts";
import { LiveState } from "../../src/cluster/state.ts";
import type { TableRow } from "../../src/datapath/rows.ts";
import { nodeRow } from "../api/fake-backend.ts";
import { compileTables } from "../fakes/compile-tables.ts";
import { rowsOf } from "../fakes/rows-of.ts";
import { VirtualClock } from "../fakes/virtual-clock.ts";
import { BEGINNING, batches, NODES } from "./any-changes.ts";

function viewpointOf(name: string): Viewpoint {
  return {
    ...{ nodeId: nodeRow(name).id, pool: "10.192.0.0/10", mtu: 1450, meshOn: true, nodeServices: true },
    ...{ hostAddresses: name === "node3" ? ["172.17.0.1"] : [], heldPorts: [], isProvisional: false },
    managers: [{ address: "192.0.2.11", port: 2377 }],
  };
}

function sameRows(rows: ReadonlyMap<string, TableRow>, rebuilt: ReadonlyMap<string, TableRow>): boolean {
  const order = (all: ReadonlyMap<string, TableRow>) => [...all].toSorted(([a], [b]) => (a < b ? -1 : 1));
  return isDeepStrictEqual(order(rows), order(rebuilt));
}

test("after any changes the rows by unit are those of a rebuild, for each node, and the differences add up to them", (t) => {
  const run = (all: Change[][]): void => {
    const state = new LiveState();
    const views = NODES.map((name) => ({
      viewpoint: viewpointOf(name),
      derived: new Derived(),
      inForce: new Map<string, TableRow>(),
    }));
    for (const [i, changes] of [BEGINNING, ...all].entries()) {
      const applied = state.apply(changes, i + 1);
      for (const { viewpoint, derived, inForce } of views) {
        const dirty: DirtyUnits = new Set();
        for (const one of applied) addUnits(dirty, state, one, viewpoint.nodeId);
        const diff = derived.update(state, viewpoint, dirty);
        for (const key of diff.delete)
          if (!inForce.delete(key)) throw new Error(`'${key}' is deleted and was not there`);
        for (const [key, row] of rowsOf(diff.put)) inForce.set(key, row);
        const rebuilt = compileTables(state, viewpoint);
        if (!sameRows(derived.rows(), rebuilt)) throw new Error("the rows by unit are others");
        if (!sameRows(inForce, rebuilt)) throw new Error("the differences add up to other rows");
      }
    }
  };
  fc.assert(fc.property(batches, run), { numRuns: 1500 });
  t.pass();
});

/** What the links, the mesh and the tasks of a node are to be. */
function desiredOn(nodeId: string, state: LiveState): Record<Concern, unknown> {
  const own = { nodeId, device: "overlay0", pool: "10.192.0.0/10" };
  const ids = [...state.tasks.keys(), ...state.endpoints.keys()];
  const sandboxes = new Map(ids.map((id) => [id, { netns: id }]));
  const storePeers = new StorePeers(new VirtualClock()).addresses(state, nodeId);
  const naming = { domain: "overlay", resolver: { nameservers: [], search: [], options: [] } };
  return {
    links: compileLinks(state, { ...own, mtu: 1450, isHeard: true, sandboxes }),
    mesh: compileMesh(state, { ...own, meshOn: true, storePeers, loopbackAddresses: [] }),
    tasks: compileTasks(state, nodeId, naming),
  };
}

test("after any changes the links, the mesh and the tasks of a node are as before, or the changes said that they concern them", (t) => {
  const run = (all: Change[][]): void => {
    const state = new LiveState();
    state.apply(BEGINNING, 1);
    const views = NODES.map((name) => ({ nodeId: nodeRow(name).id, before: desiredOn(nodeRow(name).id, state) }));
    for (const [i, changes] of all.entries()) {
      const applied = state.apply(changes, i + 2);
      for (const view of views) {
        const concerns = new Set<Concern>();
        for (const one of applied) addConcerns(concerns, state, one, view.nodeId);
        const after = desiredOn(view.nodeId, state);
        for (const part of ["links", "mesh", "tasks"] as const) {
          if (concerns.has(part) || isDeepStrictEqual(view.before[part], after[part])) continue;
          throw new Error(`${part} are others, and no change said so`);
        }
        view.before = after;
      }
    }
  };
  fc.assert(fc.property(batches, run), { numRuns: 1500 });
  t.pass();
});
