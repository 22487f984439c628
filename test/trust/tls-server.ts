// An HTTPS server and clients for tests of who trusts whom: real TLS over loopback.
import type { Agent } from "node:https";
import { createServer, request } from "node:https";
import type { AddressInfo } from "node:net";
import type { ConnectionOptions, TLSSocket } from "node:tls";
import { messageOf } from "../../src/lib/errors.ts";
import type { Credentials } from "../../src/trust/credentials.ts";
import { followCredentials, peerOf, serverTls } from "../../src/trust/tls.ts";

export interface TestServer {
  readonly port: number;
  close(): Promise<void>;
}

/** Answers with the peer's name, "no name" to one without a certificate, or 403 and why its certificate is refused. */
export async function serve(credentials: Credentials): Promise<TestServer> {
  const server = createServer(serverTls(credentials), (message, response) => {
    try {
      response.end(peerOf(message.socket as TLSSocket)?.name ?? "no name");
    } catch (error) {
      response.writeHead(403).end(messageOf(error));
    }
  });
  const stopFollowing = followCredentials(server, credentials);
  server.listen(0, "127.0.0.1");
  await new Promise((resolve) => server.once("listening", resolve));
  return {
    port: (server.address() as AddressInfo).port,
    close: async () => {
      stopFollowing();
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

/** The text of the answer. Rejects with the connection's error. */
export function get(port: number, options: { agent: Agent } | ConnectionOptions): Promise<string> {
  return new Promise((resolve, reject) => {
    const agent = "agent" in options ? {} : { agent: false };
    const asked = request({ host: "127.0.0.1", port, ...agent, ...options }, async (response) => {
      let text = "";
      for await (const piece of response.setEncoding("utf8")) text += piece;
      resolve(text);
    });
    asked.once("error", reject);
    asked.end();
  });
}
