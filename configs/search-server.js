// The demo's service: answers as the front page of Elasticsearch 2 does, with a name and cluster_uuid of its own, and
// tells who asked. Port: argument 1 (default 9200). After SIGTERM it still answers, with `Connection: close`.
import { randomBytes } from "node:crypto";
import { createServer } from "node:http";

const LINGER_MS = 1000;
const name = `search-${randomBytes(3).toString("hex")}`;
const clusterUuid = randomBytes(16).toString("base64url");
let stopping = false;

const server = createServer((request, response) => {
  const { remoteAddress, localAddress } = request.socket;
  const page = {
    name,
    cluster_name: "elasticsearch",
    cluster_uuid: clusterUuid,
    version: {
      number: "2.4.6",
      build_hash: "5376dca9f70f3abef96a77f4bb22720ace8240fd",
      build_timestamp: "2017-07-18T12:17:44Z",
      build_snapshot: false,
      lucene_version: "5.5.4",
    },
    tagline: "You Know, for Search",
    address: localAddress,
    client: remoteAddress,
  };
  if (stopping) response.setHeader("Connection", "close");
  response.setHeader("Content-Type", "application/json; charset=UTF-8");
  response.end(`${JSON.stringify(page, null, 2)}\n`);
});

server.listen(Number(process.argv[2] ?? 9200), "0.0.0.0", () => {
  console.log(`${name} listens on port ${server.address().port}`);
});

process.once("SIGTERM", () => {
  // A connection that looks idle may have a request on its way: it is not closed here, but with the next answer.
  stopping = true;
  setTimeout(() => process.exit(0), LINGER_MS);
});
