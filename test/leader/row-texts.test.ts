// Secrets in the managers' store: its files show none, and without the managers' key it gives none away.
import { readdir, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import test, { type ExecutionContext } from "ava";
import type { Change, Service } from "../../src/cluster/schema.ts";
import { openEmbeddedStore } from "../../src/leader/embedded-store.ts";
import { RowTexts } from "../../src/leader/row-texts.ts";
import { CannotLeadError } from "../../src/leader/store.ts";
import { createSealKey } from "../../src/trust/sealed-text.ts";
import { put, serviceRow } from "../api/fake-backend.ts";
import { temporaryDirectory } from "../temporary.ts";

const SECRET = "dXNlcjpwYXNzd29yZA";
const workload = {
  ...serviceRow("app").workload,
  runtime: "docker",
  image: "app:1",
  registryAuth: SECRET,
} as unknown as Service["workload"];
const SERVICE = serviceRow("app", { workload });
const TOKEN = { role: "worker" as const, secret: "s3cr3t".padEnd(25, "x"), createdAt: 0 };
const ROWS: Change[] = [put.service(SERVICE), { kind: "tokens", key: "worker", row: TOKEN }];

async function directoryFor(t: ExecutionContext): Promise<string> {
  const directory = temporaryDirectory("sealed");
  t.teardown(() => rm(directory, { recursive: true }));
  return directory;
}

async function textOf(directory: string): Promise<string> {
  const names = await readdir(directory, { recursive: true });
  const texts = await Promise.all(names.map((name) => readFile(join(directory, name), "latin1").catch(() => "")));
  return texts.join();
}

test("the store's files hold neither registry credentials nor join tokens, and with the key it gives them back", async (t) => {
  const directory = await directoryFor(t);
  const key = createSealKey();
  const store = await openEmbeddedStore(directory, key);
  await store.commit(ROWS, 1);
  await store.close();
  const text = await textOf(directory);
  t.true(text.includes("ovl-sealed-1."));
  t.false(text.includes(SECRET));
  t.false(text.includes(TOKEN.secret));
  const again = await openEmbeddedStore(directory, key);
  const state = await again.load();
  t.is((state.services.get(SERVICE.id)!.workload as { registryAuth?: string }).registryAuth, SECRET);
  t.deepEqual(state.tokens.get("worker"), TOKEN);
  await again.close();
});

test("without the key no secret is written, and a store with secrets is not led and not set aside", async (t) => {
  const directory = await directoryFor(t);
  const bare = await openEmbeddedStore(directory);
  await t.throwsAsync(bare.commit(ROWS, 1), { message: /secrets are not written without the managers' key/ });
  t.is((await bare.load()).revision, 0, "nothing half-made");
  await bare.close();
  const store = await openEmbeddedStore(directory, createSealKey());
  await store.commit(ROWS, 1);
  await store.close();
  await t.throwsAsync(openEmbeddedStore(directory, createSealKey()), {
    instanceOf: CannotLeadError,
    message: /sealed with another key \(put this manager's DATADIR\/identity back/,
  });
  t.false((await readdir(directory)).some((name) => name.includes("damaged")));
});

test("a row of a version before has its secret in the clear, and is read; one that is moved to another row's place does not open", (t) => {
  const texts = new RowTexts(createSealKey());
  t.deepEqual(texts.decode("services", SERVICE.id, JSON.stringify(SERVICE)), SERVICE);
  const sealed = texts.encode("services", SERVICE);
  t.like(texts.decode("services", SERVICE.id, sealed), { id: SERVICE.id });
  t.throws(() => texts.decode("services", "another", sealed), { message: /does not open/ });
});

test("a store of a later version is refused in words, and stays as it is", async (t) => {
  const directory = await directoryFor(t);
  const store = await openEmbeddedStore(directory, createSealKey());
  await store
    .commit([{ kind: "laters", key: "x", row: { id: "x" } } as never], 1)
    .catch((error: unknown) => t.fail(String(error)));
  await store.close();
  await t.throwsAsync(openEmbeddedStore(directory, createSealKey()), {
    instanceOf: CannotLeadError,
    message: /rows of 'laters', as a later version of overlayd writes them \(update overlayd on this node\)/,
  });
  t.false((await readdir(directory)).some((name) => name.includes("damaged")));
});
