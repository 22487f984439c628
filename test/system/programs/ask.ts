// A client for tests: asks an echo server COUNT times, each from a new socket, and prints what it answers.
// Arguments: tcp|udp HOST PORT COUNT [MS]. Exits with 1 when an answer is missing for MS, by default as long as tests wait.
import { createSocket } from "node:dgram";
import { connect } from "node:net";
import { DEADLINE_MS } from "../command.ts";

const [protocol, host = "", port, count, ms = DEADLINE_MS] = process.argv.slice(2);
const deadlineMs = Number(ms);

function askTcp(line: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host, port: Number(port), family: 4 }, () => socket.write(`${line}\n`));
    socket.setEncoding("utf8").setTimeout(deadlineMs, () => socket.destroy(new Error("no answer")));
    socket.on("error", reject);
    socket.on("data", (text: string) => {
      socket.end();
      resolve(text.trim());
    });
  });
}

function askUdp(line: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = createSocket("udp4");
    const timer = setTimeout(() => reject(new Error("no answer")), deadlineMs);
    socket.on("error", reject);
    socket.on("message", (text) => {
      clearTimeout(timer);
      socket.close();
      resolve(String(text));
    });
    // Connected: what anybody else sends is not for it, and a closed port is an error.
    socket.connect(Number(port), host, () => socket.send(line));
  });
}

try {
  for (let i = 0; i < Number(count); i++) console.log(await (protocol === "udp" ? askUdp : askTcp)(`line-${i}`));
  process.exit(0);
} catch (error) {
  console.error(String(error));
  process.exit(1);
}
