// A transfer that checks itself. `serve PORT` sends back what comes, over TCP and UDP. `ask HOST PORT OWN-PORT BYTES` sends that many
// bytes over TCP and datagrams of many lengths over UDP, and says `ok` when all of it came back as it was.
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { connect, createServer } from "node:net";

const [mode, ...words] = process.argv.slice(2);
/** The largest datagram fills a packet of the overlay. */
const DATAGRAMS = [1, 2, 17, 512, 999, 1400, 1421, 1422];
/** A datagram that was lost is sent again. */
const AGAIN_MS = 500;

/** Bytes that differ wherever one looks. */
function pattern(bytes: number): Buffer {
  const content = Buffer.alloc(bytes);
  for (let at = 0; at + 4 <= bytes; at += 4) content.writeUInt32LE(Math.imul(at + 1, 0x9e3779b1) >>> 0, at);
  return content;
}

function serve(port: number): void {
  createServer((socket) => socket.on("error", () => socket.destroy()).pipe(socket)).listen(port, "0.0.0.0");
  const datagrams = createSocket("udp4");
  datagrams.on("message", (message, { address, port: from }) => datagrams.send(message, from, address));
  datagrams.bind(port, "0.0.0.0", () => console.log("listening"));
}

async function ask(host: string, port: number, localPort: number, bytes: number): Promise<void> {
  const content = pattern(bytes);
  const socket = connect({ host, port, localPort });
  socket.end(content);
  const chunks: Buffer[] = [];
  for await (const chunk of socket) chunks.push(chunk as Buffer);
  if (!Buffer.concat(chunks).equals(content)) throw new Error("TCP: other bytes came back");

  const datagrams = createSocket("udp4");
  datagrams.bind(localPort);
  await once(datagrams, "listening");
  for (const length of DATAGRAMS) {
    const datagram = pattern(length + 4).subarray(4);
    const send = (): void => datagrams.send(datagram, port, host);
    const again = setInterval(send, AGAIN_MS);
    send();
    for (;;) {
      const [answer] = (await once(datagrams, "message")) as [Buffer];
      if (answer.equals(datagram)) break;
      if (answer.length === length) throw new Error(`UDP: other bytes came back, of ${length}`);
    }
    clearInterval(again);
  }
  datagrams.close();
  console.log("ok");
}

if (mode === "serve") serve(Number(words[0]));
else await ask(words[0]!, Number(words[1]), Number(words[2]), Number(words[3]));
