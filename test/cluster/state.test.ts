// Drafts and the JSON form of states.
import test from "ava";
import {
  type AppliedChange,
  Draft,
  emptyState,
  parseChanges,
  stateFromJson,
  stateToJson,
} from "../../src/cluster/state.ts";
import { applyChanges } from "../fakes/apply-changes.ts";
import { networkRow, PUT_OLDER_SERVICE, putNetwork, SERVICE } from "./rows.ts";

test("a draft's reads see what was written, and the state that it began from does not change", (t) => {
  const before = applyChanges(emptyState(), [putNetwork(1)], 7);
  const draft = new Draft(before);
  draft.put("networks", networkRow(2));
  draft.remove("networks", networkRow(1).id);
  t.deepEqual([...draft.state.networks.values()], [networkRow(2)]);
  t.deepEqual([...before.networks.values()], [networkRow(1)]);
  t.is(draft.revision, 8);
  t.deepEqual(stateToJson(applyChanges(before, draft.changes, 8)), stateToJson(draft.state));
});

test("what was put and removed again is no change, so that nothing is committed for it", (t) => {
  const draft = new Draft(emptyState());
  draft.put("networks", networkRow(1));
  draft.remove("networks", networkRow(1).id);
  draft.remove("networks", "never there");
  t.deepEqual(draft.changes, []);
});

test("a state survives its JSON form", (t) => {
  const state = applyChanges(emptyState(), [putNetwork(1), putNetwork(2)], 9);
  t.deepEqual(stateToJson(stateFromJson(JSON.parse(JSON.stringify(stateToJson(state))))), stateToJson(state));
});

test("a state that is replaced by another has its rows and indexes, and tells only what differs", (t) => {
  const state = emptyState();
  state.apply([putNetwork(1), putNetwork(2), putNetwork(3)], 4);
  const kept = state.networks.get(networkRow(1).id);
  t.is(state.networks.count("name", "net2"), 1);
  const renamed = { ...networkRow(3), name: "other" };
  const next = emptyState();
  next.apply([putNetwork(1), { kind: "networks", key: renamed.id, row: renamed }, putNetwork(4)], 9);
  next.cluster = { id: "c".repeat(25), epoch: 2 };
  t.deepEqual(state.replaceBy(next), [
    { kind: "networks", key: networkRow(2).id, row: null, before: networkRow(2) },
    { kind: "networks", key: renamed.id, row: renamed, before: networkRow(3) },
    { ...putNetwork(4), before: undefined } as AppliedChange,
  ]);
  t.deepEqual(stateToJson(state), stateToJson(next));
  t.is(state.networks.get(networkRow(1).id), kept);
  t.deepEqual([state.networks.count("name", "net2"), state.networks.by("name", "other")], [0, [renamed]]);
  t.deepEqual(state.replaceBy(next), []);
});

test("a change that an older leader tells, of a service with the PROXY protocol, is taken without it", (t) => {
  const changes = parseChanges(JSON.parse(JSON.stringify([PUT_OLDER_SERVICE])));
  t.deepEqual(changes, [{ kind: "services", key: SERVICE.id, row: SERVICE }]);
});

test("changes from outside are checked", (t) => {
  t.throws(() => parseChanges([{ kind: "networks", key: "x", row: { id: "x" } }]));
  t.throws(() => parseChanges([{ kind: "nonsense", key: "x", row: null }]));
  t.deepEqual(parseChanges(JSON.parse(JSON.stringify([putNetwork(1)]))), [putNetwork(1)]);
});
