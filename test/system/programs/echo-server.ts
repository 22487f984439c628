// A service for tests: answers every line (TCP) and every datagram (UDP) with `OWN-ADDRESS CLIENT-ADDRESS LINE`.
// Arguments: port. Ends at SIGTERM.
import { createSocket } from "node:dgram";
import { createServer } from "node:net";
import { networkInterfaces } from "node:os";
import { createInterface } from "node:readline";

const port = Number(process.argv[2]);
const own = networkInterfaces().eth0?.[0]?.address ?? "none";

createServer((socket) => {
  const client = socket.remoteAddress;
  socket.on("error", () => socket.destroy());
  createInterface({ input: socket })
    .on("line", (line) => socket.write(`${own} ${client} ${line}\n`))
    .on("error", () => socket.destroy()); // the socket's, told again
}).listen(port, "0.0.0.0");

const datagrams = createSocket("udp4");
datagrams.on("message", (message, { address, port: from }) => {
  datagrams.send(`${own} ${address} ${message}`, from, address);
});
datagrams.bind(port, "0.0.0.0");
