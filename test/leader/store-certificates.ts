// Certificates for tests of etcd: a CA of the store, and a certificate of it for etcd's members and their clients.
import { execFile } from "node:child_process";
import { randomInt } from "node:crypto";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import type { EtcdTls } from "../../src/leader/etcd-endpoints.ts";

const run = promisify(execFile);

/**
 * The files `ca.crt`, `NAME.crt` and `NAME.key` in `directory`, and what they hold, for a member that listens on `address`. Makes
 * the CA when it is not there.
 */
export async function issueStoreCertificate(directory: string, name: string, address = "127.0.0.1"): Promise<EtcdTls> {
  const file = (ending: string) => join(directory, ending);
  const openssl = (...words: string[]) => run("openssl", words);
  const curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
  const ca = ["-CA", file("ca.crt"), "-CAkey", file("ca.key")];
  if (!(await readFile(file("ca.crt")).catch(() => undefined))) {
    await openssl(
      "req",
      "-x509",
      ...curve,
      "-days",
      "2",
      "-subj",
      "/CN=store",
      "-keyout",
      file("ca.key"),
      "-out",
      file("ca.crt"),
    );
  }
  await openssl("req", ...curve, "-subj", `/CN=${name}`, "-keyout", file(`${name}.key`), "-out", file(`${name}.csr`));
  // Nothing is shared with certificates that are issued at the same time.
  const extensions = file(`${name}.extensions`);
  await writeFile(extensions, `subjectAltName=IP:${address}\nextendedKeyUsage=serverAuth,clientAuth\n`);
  const issued = [
    "-in",
    file(`${name}.csr`),
    "-days",
    "2",
    "-extfile",
    extensions,
    "-set_serial",
    `${randomInt(1, 2 ** 47)}`,
    "-out",
    file(`${name}.crt`),
  ];
  await openssl("x509", "-req", ...issued, ...ca);
  const read = (ending: string) => readFile(file(ending), "utf8");
  return { ca: await read("ca.crt"), certificate: await read(`${name}.crt`), key: await read(`${name}.key`) };
}
