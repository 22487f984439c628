// What every store must do, whichever way it keeps things.
import test from "ava";
import type { Change } from "../../src/cluster/schema.ts";
import { emptyState, stateToJson } from "../../src/cluster/state.ts";
import type { Store } from "../../src/leader/store.ts";
import { networkRow, putNetwork } from "../cluster/rows.ts";

/** One storage that can be closed and opened again. */
export interface Storage {
  open(): Promise<Store>;
  remove(): Promise<void>;
}

export function storeSuite(name: string, makeStorage: () => Promise<Storage>): void {
  test(`${name}: a new store is empty, at revision 0`, async (t) => {
    const storage = await makeStorage();
    const store = await storage.open();
    await store.campaign();
    const state = await store.load();
    t.is(state.revision, 0);
    t.is(state.networks.size, 0);
    await store.close();
    await storage.remove();
  });

  test(`${name}: what was committed is there after it was closed and opened`, async (t) => {
    const storage = await makeStorage();
    const store = await storage.open();
    await store.campaign();
    await store.commit([putNetwork(1), putNetwork(2)], 1);
    await store.commit([{ kind: "networks", key: networkRow(1).id, row: null }], 2);
    await store.commit([{ ...putNetwork(2), row: { ...networkRow(2), name: "renamed" } } as Change], 3);
    await store.close();
    const again = await storage.open();
    await again.campaign();
    const state = stateToJson(await again.load());
    t.is(state.revision, 3);
    t.deepEqual(state.networks, [{ ...networkRow(2), name: "renamed" }]);
    await again.close();
    await storage.remove();
  });

  test(`${name}: removing what is not there is no error`, async (t) => {
    const storage = await makeStorage();
    const store = await storage.open();
    await store.campaign();
    await store.commit([{ kind: "networks", key: "nothing", row: null }, putNetwork(1)], 1);
    t.is((await store.load()).networks.size, 1);
    await store.close();
    await storage.remove();
  });

  test(`${name}: a thousand rows in one commit are all there`, async (t) => {
    const storage = await makeStorage();
    const store = await storage.open();
    await store.campaign();
    await store.commit(
      Array.from({ length: 1000 }, (_, i) => putNetwork(i)),
      1,
    );
    t.is((await store.load()).networks.size, 1000);
    await store.close();
    await storage.remove();
  });

  test(`${name}: filling it replaces all that it had, with revision and identity`, async (t) => {
    const storage = await makeStorage();
    const store = await storage.open();
    await store.campaign();
    await store.commit([putNetwork(1), putNetwork(2)], 7);
    const state = emptyState();
    state.cluster = { id: networkRow(1).id, epoch: 3 };
    state.apply([putNetwork(3)], 9);
    await store.fill(state);
    t.deepEqual(stateToJson(await store.load()), stateToJson(state));
    await store.commit([putNetwork(4)], 10);
    await store.close();
    const again = await storage.open();
    await again.campaign();
    const loaded = await again.load();
    t.is(loaded.revision, 10);
    t.deepEqual(loaded.cluster, state.cluster);
    t.deepEqual([...loaded.networks.keys()].toSorted(), [networkRow(3).id, networkRow(4).id].toSorted());
    await again.close();
    await storage.remove();
  });
}
