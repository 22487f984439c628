// Speaks one line at a time over one TCP connection, as told by lines on standard input: `say TEXT` sends TEXT and prints what
// comes back, `end` closes its own side alone, `abort` sends a reset. argv: HOST PORT [SOURCE-PORT].
import { connect } from "node:net";
import { createInterface } from "node:readline";

const [host, port, localPort] = process.argv.slice(2);
const socket = connect({ host: host!, port: Number(port), localPort: Number(localPort ?? 0), allowHalfOpen: true });
const out = (line: string): void => void process.stdout.write(`${line}\n`);
socket.setEncoding("utf8");
socket.on("connect", () => out("connected"));
socket.on("data", (text: string) => out(text.trimEnd()));
socket.on("error", (error: NodeJS.ErrnoException) => out(`error ${error.code}`));
socket.on("close", () => process.exit());
for await (const line of createInterface({ input: process.stdin })) {
  if (line === "end") socket.end();
  else if (line === "abort") socket.resetAndDestroy();
  else socket.write(`${line.replace(/^say /, "")}\n`);
}
