// An image registry with one small image in it, which asks for a password: the OCI distribution API, as far as a pull goes.
import { createHash } from "node:crypto";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { gzipSync } from "node:zlib";
import { archive, pauseProgram } from "../../src/runtime/pause-image.ts";

export const REGISTRY_USER = "reader";
export const REGISTRY_PASSWORD = "pass:word";

export interface Registry {
  /** 127.0.0.1:PORT, which an engine speaks plain HTTP to. */
  readonly host: string;
  /** With its tag; nobody has pulled it before. */
  readonly image: string;
  /** Paths that were answered, in order. */
  readonly served: string[];
  close(): Promise<void>;
}

export async function startRegistry(): Promise<Registry> {
  const name = `once-${Date.now().toString(36)}`;
  const layer = archive("pause", pauseProgram("x64"));
  const config = json({
    architecture: process.arch === "arm64" ? "arm64" : "amd64",
    os: "linux",
    config: { Entrypoint: ["/pause"], Labels: { name } },
    rootfs: { type: "layers", diff_ids: [digestOf(layer)] },
  });
  const packed = gzipSync(layer);
  const manifest = json({
    schemaVersion: 2,
    mediaType: "application/vnd.docker.distribution.manifest.v2+json",
    config: { mediaType: "application/vnd.docker.container.image.v1+json", ...described(config) },
    layers: [{ mediaType: "application/vnd.docker.image.rootfs.diff.tar.gzip", ...described(packed) }],
  });
  const manifestType = "application/vnd.docker.distribution.manifest.v2+json";
  const files = new Map<string, { body: Buffer; type: string }>([
    ["/v2/", { body: json({}), type: "application/json" }],
    [`/v2/${name}/manifests/1`, { body: manifest, type: manifestType }],
    [`/v2/${name}/manifests/${digestOf(manifest)}`, { body: manifest, type: manifestType }],
    [`/v2/${name}/blobs/${digestOf(config)}`, { body: config, type: "application/octet-stream" }],
    [`/v2/${name}/blobs/${digestOf(packed)}`, { body: packed, type: "application/octet-stream" }],
  ]);
  const authorization = `Basic ${Buffer.from(`${REGISTRY_USER}:${REGISTRY_PASSWORD}`).toString("base64")}`;
  const served: string[] = [];
  const server = createServer((request, response) => {
    if (request.headers.authorization !== authorization) {
      response.writeHead(401, { "www-authenticate": 'Basic realm="test"' }).end();
      return;
    }
    const file = files.get(request.url ?? "");
    if (file === undefined) {
      response.writeHead(404).end();
      return;
    }
    served.push(request.url!);
    const headers = {
      "content-type": file.type,
      "content-length": file.body.length,
      "docker-content-digest": digestOf(file.body),
    };
    response.writeHead(200, headers).end(request.method === "HEAD" ? undefined : file.body);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const host = `127.0.0.1:${(server.address() as AddressInfo).port}`;
  return {
    host,
    image: `${host}/${name}:1`,
    served,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

function json(value: object): Buffer {
  return Buffer.from(JSON.stringify(value));
}

function digestOf(content: Buffer): string {
  return `sha256:${createHash("sha256").update(content).digest("hex")}`;
}

function described(content: Buffer): { size: number; digest: string } {
  return { size: content.length, digest: digestOf(content) };
}
