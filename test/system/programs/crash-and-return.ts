// A client for tests that crashes and comes back: it asks an echo server by TCP, forgets the connection without a word to the
// server (this host's nftables drop what its kernel would say), and connects anew from the same port. Exits with 0 when
// that is answered. Arguments: ADDRESS PORT OWN-PORT.
import { execFileSync } from "node:child_process";
import { connect, type Socket } from "node:net";
import { DEADLINE_MS } from "../command.ts";

const [host = "", port, ownPort] = process.argv.slice(2);
const nft = (...lines: string[]): void => {
  execFileSync("nft", ["-f", "-"], { input: `${lines.join("\n")}\n` });
};

function ask(): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host, port: Number(port), localPort: Number(ownPort), family: 4 }, () =>
      socket.write("line\n"),
    );
    socket.setTimeout(DEADLINE_MS, () => socket.destroy(new Error("no answer")));
    socket.on("error", reject);
    socket.once("data", () => resolve(socket));
  });
}

const first = await ask();
nft(
  "table ip silence {",
  "chain output { type filter hook output priority 0; policy accept;",
  `tcp sport ${ownPort} tcp flags & (fin | rst) != 0 drop; }`,
  "}",
);
first.resetAndDestroy();
await new Promise((resolve) => first.once("close", resolve));
nft("delete table ip silence");
(await ask()).destroy();
console.log("answered again");
process.exit(0);
