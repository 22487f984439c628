// Images from a registry that asks for a password: whose credentials are used, and what is told without.
import { rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { ExecutionContext } from "ava";
import { ContainerWorkload } from "../../src/cluster/workload.ts";
import { systemClock } from "../../src/lib/clock.ts";
import { registryAuthFor } from "../../src/lib/registry-auth.ts";
import { DockerEngine } from "../../src/runtime/docker-engine.ts";
import { ensureImage } from "../../src/runtime/pull-image.ts";
import { RejectedError } from "../../src/runtime/runtime.ts";
import { REGISTRY_PASSWORD, REGISTRY_USER, type Registry, startRegistry } from "../fakes/registry.ts";
import { temporaryDirectory } from "../temporary.ts";
import { run } from "./command.ts";
import { engineTest, useEngine } from "./engine-test.ts";

useEngine();

async function setUp(t: ExecutionContext) {
  const registry = await startRegistry();
  const home = temporaryDirectory("test");
  t.teardown(async () => {
    await registry.close();
    await rm(home, { recursive: true });
    await run(["docker", "rmi", registry.image]).catch(() => ""); // where it was not pulled
  });
  const told: string[] = [];
  const pull = (registryAuth: string | null, environment: NodeJS.ProcessEnv): Promise<void> => {
    const workload = ContainerWorkload.parse({ runtime: "docker", image: registry.image, registryAuth });
    const preparation = { progress: (message: string) => told.push(message), signal: new AbortController().signal };
    return ensureImage(new DockerEngine(), workload, preparation, { clock: systemClock, environment });
  };
  return { registry, home, told, pull };
}

async function logIn(directory: string, { host }: Registry): Promise<NodeJS.ProcessEnv> {
  const auth = Buffer.from(`${REGISTRY_USER}:${REGISTRY_PASSWORD}`).toString("base64");
  await writeFile(join(directory, "config.json"), JSON.stringify({ auths: { [host]: { auth } } }));
  return { DOCKER_CONFIG: directory };
}

engineTest("without credentials the pull is rejected, with the registry's reason", async (t) => {
  const { registry, home, pull, told } = await setUp(t);
  const error = await t.throwsAsync(pull(null, { HOME: home }), { instanceOf: RejectedError });
  t.true(error?.message.startsWith(`image ${registry.image} cannot be pulled: `), error?.message);
  t.deepEqual(told, [`pulling ${registry.image}`]);
});

engineTest("the node's own configuration opens the registry, once", async (t) => {
  const { registry, home, pull, told } = await setUp(t);
  const environment = await logIn(home, registry);
  await pull(null, environment);
  const served = registry.served.length;
  t.true(served > 0);
  await pull(null, environment);
  t.is(registry.served.length, served);
  t.deepEqual(told, [`pulling ${registry.image}`]);
});

engineTest("what a service brings with it opens it on a node that has nothing", async (t) => {
  const { registry, home, pull } = await setUp(t);
  const environment = await logIn(home, registry);
  await pull(registryAuthFor(registry.image, environment), { HOME: "/no/such" });
  t.true(registry.served.some((path) => path.includes("/blobs/")));
});
