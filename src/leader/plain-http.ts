// The answer to a node of an earlier version, which speaks plain HTTP to a port that speaks TLS.
import type { Server as SecureServer } from "node:https";
import type { Socket } from "node:net";
import type { Failure } from "../lib/failure.ts";
import type { Handshakes } from "./server-limits.ts";

const FAILURE: Failure = {
  error:
    "this manager speaks TLS only: install this version of overlayd on the node too, then let it join with 'overlayctl join ADDRESS --token T' ('overlayctl join-token worker' on a manager prints that)",
};

/** Refuses requests without TLS in words that an earlier agent logs and shows. */
export function refusePlainHttp(server: SecureServer, handshakes: Handshakes): void {
  const body = JSON.stringify(FAILURE);
  const head = ["HTTP/1.1 426 Upgrade Required", "Content-Type: application/json", "Connection: close"];
  const answer = `${[...head, `Content-Length: ${Buffer.byteLength(body)}`].join("\r\n")}\r\n\r\n${body}`;
  server.on("tlsClientError", (error: NodeJS.ErrnoException, secure: Socket) => {
    if (error.code === "ERR_SSL_HTTP_REQUEST") handshakes.under(secure)?.end(answer);
  });
}
