// The least that the lane needs: the verifier asks for more of programs that calculate with pointers as these must not.
import { execFileSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { bpfTest } from "./bpf-test.ts";

bpfTest("CAP_BPF and CAP_NET_ADMIN are enough to load the lane's programs", (t) => {
  const path = fileURLToPath(new URL("./load-and-run.js", import.meta.url));
  const only = ["--bounding-set", "-all,+bpf,+net_admin", "--inh-caps", "-all"];
  const said = execFileSync("setpriv", [...only, process.execPath, path], { encoding: "utf8" });
  t.is(said, "carried\n");
});
