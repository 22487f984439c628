// Drafts and the JSON form of states.
import test from "ava";
import { applyChanges, Draft, emptyState, parseChanges, stateFromJson, stateToJson } from "../../src/cluster/state.ts";
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

test("a change that an older leader tells, of a service with the PROXY protocol, is taken without it", (t) => {
  const changes = parseChanges(JSON.parse(JSON.stringify([PUT_OLDER_SERVICE])));
  t.deepEqual(changes, [{ kind: "services", key: SERVICE.id, row: SERVICE }]);
});

test("changes from outside are checked", (t) => {
  t.throws(() => parseChanges([{ kind: "networks", key: "x", row: { id: "x" } }]));
  t.throws(() => parseChanges([{ kind: "nonsense", key: "x", row: null }]));
  t.deepEqual(parseChanges(JSON.parse(JSON.stringify([putNetwork(1)]))), [putNetwork(1)]);
});
