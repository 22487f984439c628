// A process that starts an etcd as tests do, says where it is, and never ends by itself. Its argument: the directory to keep it in.
import { TestEtcd } from "./test-etcd.ts";

const etcd = await TestEtcd.start({ on: process.argv[2]! });
process.send!({ directory: etcd.directory, pid: etcd.pid(0) });
setInterval(() => {}, 60_000);
