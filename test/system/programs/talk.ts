// A client for tests: keeps one TCP connection to an echo server busy, a line each 50 ms, and checks every answer.
// Arguments: HOST PORT [BYTES [FROM]]; a line has so many bytes more, and FROM is the client's own address. Prints `talking` after the first answer, and with BYTES the number of
// answers after each. At SIGTERM it ends: with 0 and the number of answers and
// the longest silence when the connection held and another answer came, with 1 otherwise.
import { connect } from "node:net";
import { createInterface } from "node:readline";
import { DEADLINE_MS } from "../command.ts";

const [host = "", port, bytes = "0", from] = process.argv.slice(2);
const padding = Number(bytes) > 0 ? `${"x".repeat(Number(bytes))} ` : "";
let asked = 0;
let answered = 0;
let lastAnswerAt = performance.now();
let longestSilenceMs = 0;
let ending = false;

const socket = connect({ host, port: Number(port), family: 4, ...(from !== undefined && { localAddress: from }) });
socket.on("connect", () => {
  const timer = setInterval(() => {
    if (!ending) socket.write(`${padding}line-${asked++}\n`);
    else clearInterval(timer);
  }, 50);
});
createInterface({ input: socket }).on("line", (line) => {
  if (!line.endsWith(` ${padding}line-${answered}`)) fail(`answer ${answered} is '${line}'`);
  longestSilenceMs = Math.max(longestSilenceMs, performance.now() - lastAnswerAt);
  lastAnswerAt = performance.now();
  if (answered++ === 0) console.log("talking");
  if (padding !== "") console.log(`answers: ${answered}`);
  if (ending && answered === asked) {
    console.log(`${answered} ${Math.round(longestSilenceMs)}`);
    process.exit(0);
  }
});
socket.on("error", (error) => fail(error.message));
socket.on("close", () => fail("the connection was closed"));
process.on("SIGTERM", () => {
  ending = true;
  socket.write(`${padding}line-${asked++}\n`);
  setTimeout(() => fail("no answer since it was asked to end"), DEADLINE_MS);
});

function fail(reason: string): never {
  console.error(`${reason}, after ${answered} answers`);
  process.exit(1);
}
