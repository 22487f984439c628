// How a node that has nothing but a join token knows a manager: the digest in the token is that of the CA's public key. The
// server sends its CAs after its own certificate; the one with that key is then trusted, and no other.
import { X509Certificate } from "node:crypto";
import { type ConnectionOptions, connect, type DetailedPeerCertificate } from "node:tls";
import { DeadlineError } from "../lib/deadline.ts";
import { publicKeyDigest, type Subject, subjectOf } from "./certificates.ts";
import { managerOfAnyCluster } from "./tls.ts";
import { TrustError } from "./trust-error.ts";

interface Manager {
  readonly host: string;
  readonly port: number;
}

/**
 * Options of a connection to a manager whose CA the digest names; `clusterId` is that of a node which has a cluster already, and
 * joins again. A connection before it, on which nothing is sent, asks the
 * server for its certificates. Throws TrustError when none of them has that key, and the connection's error when nothing answers.
 */
export async function pinnedTls(
  manager: Manager,
  digest: string,
  { timeoutMs, clusterId }: { timeoutMs: number; clusterId?: string | undefined },
): Promise<ConnectionOptions> {
  const shown = await certificatesOf(manager, timeoutMs);
  const anchor = shown.find((certificate) => certificate.ca && publicKeyDigest(certificate) === digest);
  if (anchor === undefined) {
    throw new TrustError(
      "foreign",
      "its CA is not the one that the token names: the token is of another cluster, or another machine answers there",
    );
  }
  return {
    ca: anchor.toString(),
    allowPartialTrustChain: true, // the anchor need not have signed itself
    minVersion: "TLSv1.3",
    rejectUnauthorized: true,
    checkServerIdentity: (_host, { raw }) => {
      const certificate = new X509Certificate(raw);
      return managerOfAnyCluster(certificate) ?? whyOther(subjectOf(certificate), clusterId);
    },
  };
}

function whyOther(manager: Subject, clusterId: string | undefined): Error | undefined {
  if (clusterId === undefined || manager.clusterId === clusterId) return undefined;
  return new TrustError(
    "foreign",
    `it is of cluster ${manager.clusterId}, and this node is of ${clusterId}: 'overlayctl leave' makes it forget that one first`,
  );
}

/** The certificates that a server shows, its own first. None of them is trusted yet. */
function certificatesOf({ host, port }: Manager, timeoutMs: number): Promise<X509Certificate[]> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host, port, minVersion: "TLSv1.3", rejectUnauthorized: false });
    const deadline = setTimeout(() => {
      socket.destroy(new DeadlineError(`no answer within ${timeoutMs / 1000} s`));
    }, timeoutMs);
    socket.once("error", reject);
    socket.once("secureConnect", () => {
      try {
        resolve(chainOf(socket.getPeerCertificate(true)));
      } catch (error) {
        reject(error);
      }
      socket.destroy();
    });
    socket.once("close", () => {
      clearTimeout(deadline);
      reject(new Error("the connection was closed before the server showed a certificate"));
    });
  });
}

function chainOf(first: DetailedPeerCertificate): X509Certificate[] {
  const chain: X509Certificate[] = [];
  // A CA that signed itself is its own issuer, and the last one.
  for (let next: DetailedPeerCertificate | undefined = first; next?.raw !== undefined; ) {
    chain.push(new X509Certificate(next.raw));
    next = next.issuerCertificate === next ? undefined : next.issuerCertificate;
  }
  return chain;
}
