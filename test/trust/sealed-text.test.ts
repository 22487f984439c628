// Texts encrypted at rest: they open with their key and context alone.
import test from "ava";
import { createSealKey, lock, open, seal, unlock } from "../../src/trust/sealed-text.ts";

const key = createSealKey();

test("a sealed text opens with its key, and no two are alike", (t) => {
  for (const text of ["", "secret", "ü\u0000", "x".repeat(100_000)]) {
    t.is(open(key, seal(key, text, "registry:a"), "registry:a"), text);
  }
  t.not(seal(key, "secret", "a"), seal(key, "secret", "a"));
});

const sealed = seal(key, "secret", "registry:a");
const REFUSED: [what: string, key: string, text: string, context: string, message: RegExp][] = [
  ["another key", createSealKey(), sealed, "registry:a", /another key/],
  ["another context", key, sealed, "registry:b", /does not open/],
  [
    "a changed text",
    key,
    `${sealed.slice(0, 30)}${sealed[30] === "A" ? "B" : "A"}${sealed.slice(31)}`,
    "registry:a",
    /changed/,
  ],
  ["a cut text", key, sealed.slice(0, 20), "registry:a", /does not open/],
  ["a text that was never sealed", key, "secret", "registry:a", /no text that overlayd sealed/],
  ["a key that is cut", key.slice(2), sealed, "registry:a", /does not open/],
];
for (const [what, otherKey, text, context, message] of REFUSED) {
  test(`${what} is refused`, (t) => {
    t.throws(() => open(otherKey, text, context), { name: "TrustError", message });
  });
}

test("a locked text opens with its passphrase alone", async (t) => {
  const locked = await lock("correct horse", "secret", "export");
  t.is(await unlock("correct horse", `${locked}\n`, "export"), "secret");
  await t.throwsAsync(unlock("wrong horse", locked, "export"), { message: /the passphrase is wrong/ });
  await t.throwsAsync(unlock("correct horse", locked, "manager.keys"), { message: /the passphrase is wrong/ });
  await t.throwsAsync(unlock("correct horse", "secret", "export"), { message: /no text that overlayd locked/ });
});
