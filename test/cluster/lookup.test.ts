// The row that a person means with a word: its name in any case, its id, or the beginning of its id.
import test from "ava";
import { find, findByName, requireNewName } from "../../src/cluster/lookup.ts";
import { emptyState } from "../../src/cluster/state.ts";
import { id, put, serviceRow } from "../api/fake-backend.ts";
import { applyChanges } from "../fakes/apply-changes.ts";

const names = ["search", "searches", "Web"];
const { services } = applyChanges(
  emptyState(),
  names.map((name) => put.service(serviceRow(name))),
  1,
);

const rows: [word: string, name: string | undefined][] = [
  ["search", "search"],
  ["SEARCH", "search"],
  ["web", "Web"],
  [id("searches"), "searches"],
  ["searchx", "search"],
  ["searche", "searches"],
  ["sear", undefined],
  ["se", undefined],
  ["", undefined],
  ["__proto__", undefined],
];
for (const [word, name] of rows) {
  test(`'${word}' means ${name ?? "nothing"}`, (t) => t.is(find(services, word)?.name, name));
}

test("a word that means nothing is refused with the name that is near", (t) => {
  const message = "there is no service 'serach'; did you mean 'search'?";
  t.throws(() => findByName("service", services, "serach"), { message, code: 404 } as object);
});

test("a name is taken in any case", (t) => {
  t.throws(() => requireNewName("service", services, "WEB"), { message: "a service 'WEB' exists already" });
  t.notThrows(() => requireNewName("service", services, "webs"));
});
