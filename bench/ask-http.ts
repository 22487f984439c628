// Asks each URL every 20 ms, on a connection of its own each time. Prints `asking` once all have answered, and at SIGTERM how
// many requests were sent since then and how many of them had no answer, as JSON. Arguments: URL...
import { get } from "node:http";

const EVERY_MS = 20;
const TIMEOUT_MS = 5000;
const urls = process.argv.slice(2);
// BOUNDED: by the arguments.
const answered = new Set<string>();
let isAsking = false;
let requests = 0;
let failed = 0;

function ask(url: string): void {
  const isCounted = isAsking;
  if (isCounted) requests++;
  const fail = (): void => {
    if (isCounted) failed++;
  };
  const request = get(url, { agent: false, timeout: TIMEOUT_MS }, (response) => {
    response.resume();
    response.once("end", () => {
      if (response.statusCode !== 200) return fail();
      answered.add(url);
      if (isAsking || answered.size < urls.length) return;
      isAsking = true;
      console.log("asking");
    });
  });
  request.once("timeout", () => request.destroy(new Error("no answer")));
  request.once("error", fail);
}

setInterval(() => urls.forEach(ask), EVERY_MS);
process.on("SIGTERM", () => {
  console.log(JSON.stringify({ requests, failed }));
  process.exit(0);
});
