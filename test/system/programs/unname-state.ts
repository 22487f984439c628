// Takes from the state in a manager's etcd which cluster it is of, as if the move to it had broken off right before that was
// written. Arguments: the directory of the manager's etcd, HOST:PORT of it.
import { readFileSync } from "node:fs";
import { EtcdClient, endOf } from "../../../src/leader/etcd-client.ts";
import { etcdPaths } from "../../../src/leader/etcd-command.ts";

const [directory = "", endpoint = ""] = process.argv.slice(2);
const paths = etcdPaths(directory);
const [ca, certificate, key] = [paths.ca, paths.certificate, paths.key].map((path) => readFileSync(path, "utf8"));
const client = new EtcdClient({ endpoints: [endpoint], tls: { ca: ca!, certificate: certificate!, key: key! } });
const { rows } = await client.range({ key: "/overlayd/", end: endOf("/overlayd/") });
const head = rows.find((row) => row.key.endsWith("/head"))!;
const { cluster, ...unnamed } = JSON.parse(head.value) as Record<string, unknown>;
if (cluster === undefined) throw new Error("it does not say so");
await client.txn({ compare: [], writes: [{ put: head.key, value: JSON.stringify(unnamed) }], otherwise: [] });
client.close();
