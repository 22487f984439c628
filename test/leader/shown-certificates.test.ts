// A node's row says which CA signed the certificate that it shows, and not the one that it was sent.
import test from "ava";
import { Draft, emptyState } from "../../src/cluster/state.ts";
import type { Peer } from "../../src/leader/authority.ts";
import type { Certified } from "../../src/leader/nodes.ts";
import { ShownCertificates } from "../../src/leader/shown-certificates.ts";
import { silentLog } from "../../src/lib/log.ts";
import type { Authority } from "../../src/trust/authority.ts";
import { parseCertificate, publicKeyDigest } from "../../src/trust/certificates.ts";
import { id, nodeRow } from "../api/fake-backend.ts";
import { CLUSTER, certificateOf, nodesAuthority } from "../trust/cluster.ts";

async function setUp() {
  const [older, younger] = [await nodesAuthority(), await nodesAuthority()];
  const state = emptyState();
  const renewed: (Certified & { nodeId: string })[] = [];
  const trust = (bundle: Authority[]) => {
    const draft = new Draft(state);
    const signer = publicKeyDigest(bundle.at(-1)!.certificate);
    draft.put("trust", { bundle: bundle.map(({ certificate }) => certificate), signer });
    draft.put("nodes", nodeRow("node1", { certificateSigner: publicKeyDigest(older.certificate) }));
    state.apply(draft.changes, draft.revision);
  };
  const leader = {
    state,
    renewed: async (nodeId: string, certified: Certified) => void renewed.push({ nodeId, ...certified }),
  };
  const peerOf = async (authority: Authority): Promise<Peer> => {
    const subject = { kind: "node", clusterId: CLUSTER, id: id("node1"), name: "node1", role: "worker" } as const;
    const { certificate } = await certificateOf(authority, subject);
    return { subject, from: "192.0.2.11", certificate: parseCertificate(certificate) };
  };
  return { older, younger, trust, renewed, peerOf, shown: new ShownCertificates(leader, silentLog) };
}

test("a certificate of the new CA is noted when its node first shows it, once a connection", async (t) => {
  const { older, younger, trust, renewed, peerOf, shown } = await setUp();
  trust([older, younger]);
  shown.note(await peerOf(older));
  t.deepEqual(renewed, []);
  const peer = await peerOf(younger);
  for (let i = 0; i < 3; i++) shown.note(peer);
  t.is(renewed.length, 1);
  t.like(renewed[0], { nodeId: id("node1"), certificateSigner: publicKeyDigest(younger.certificate) });
});

test("while one CA is trusted, and for a peer without a connection, nothing is looked at", async (t) => {
  const { older, younger, trust, renewed, peerOf, shown } = await setUp();
  trust([younger]);
  shown.note(await peerOf(younger));
  trust([older, younger]);
  const { certificate: _, ...inProcess } = await peerOf(younger);
  shown.note(inProcess);
  t.deepEqual(renewed, []);
});
