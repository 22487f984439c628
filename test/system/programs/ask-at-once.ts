// A client for tests: sends COUNT questions for NAME over one TCP connection in one go, and prints how many of them were
// answered with an address before the server closed. Arguments: SERVER NAME COUNT.
import { connect } from "node:net";
import { decode, encode } from "dns-packet";

const LENGTH_BYTES = 2;
const [server = "", name = "", count] = process.argv.slice(2);
const queries = Array.from({ length: Number(count) }, (_, id) => {
  const message = encode({ type: "query", id, questions: [{ type: "A", name }] });
  const framed = Buffer.alloc(LENGTH_BYTES + message.length);
  framed.writeUInt16BE(message.length);
  message.copy(framed, LENGTH_BYTES);
  return framed;
});
const received: Buffer[] = [];

const socket = connect(53, server, () => socket.end(Buffer.concat(queries)));
socket.on("data", (chunk) => received.push(chunk));
socket.on("close", () => {
  const all = Buffer.concat(received);
  const answered = new Set<number>();
  for (let offset = 0; offset < all.length; ) {
    const end = offset + LENGTH_BYTES + all.readUInt16BE(offset);
    const { id, answers = [] } = decode(all.subarray(offset + LENGTH_BYTES, end));
    if (answers.some(({ type }) => type === "A")) answered.add(id!);
    offset = end;
  }
  console.log(answered.size);
});
