// The image of the container that holds a task's network namespace: one static program that waits for SIGTERM, elf(5),
// in an archive, tar(5). Made here, so that no registry is needed for it.
import { Readable } from "node:stream";
import { PlatformError } from "../lib/errors.ts";
import { VERSION } from "../lib/version.ts";
import { type DockerEngine, DockerError } from "./docker-engine.ts";

export const PAUSE_IMAGE = `overlayd/pause:${VERSION}`;

const LOAD_ADDRESS = 0x400000;
const ELF_HEADER_BYTES = 64;
const PROGRAM_HEADER_BYTES = 56;
const BLOCK_BYTES = 512;

/** e_machine, and the code: 64 bytes, then the set of SIGINT and SIGTERM as the kernel has it. */
const PROGRAMS: Partial<Record<NodeJS.Architecture, { machine: number; code: string }>> = {
  x64: {
    machine: 62,
    code: [
      "b80e000000 31ff 488d3532000000 31d2 41ba08000000 0f05", // rt_sigprocmask(SIG_BLOCK, set, NULL, 8)
      "b880000000 488d3d1c000000 31f6 31d2 41ba08000000 0f05", // again: rt_sigtimedwait(set, NULL, NULL, 8)
      "85c0 78e4", // below zero: again
      "31ff b8e7000000 0f05 909090", // exit_group(0)
      "0240000000000000",
    ].join(""),
  },
  arm64: {
    machine: 183,
    code: [
      "e81080d2 000080d2 c1010010 020080d2 030180d2 010000d4",
      "281180d2 20010010 010080d2 020080d2 030180d2 010000d4",
      "40ffffb7",
      "000080d2 c80b80d2 010000d4",
      "0240000000000000",
    ].join(""),
  },
};

/** Makes the engine have it. Throws DockerError, and PlatformError on a processor that it was not written for. */
export async function ensurePauseImage(engine: DockerEngine, architecture = process.arch): Promise<void> {
  const { docker } = engine;
  try {
    await engine.call("docker image inspect", () => docker.getImage(PAUSE_IMAGE).inspect());
    return;
  } catch (error) {
    if (!(error instanceof DockerError && error.status === 404)) throw error;
  }
  const [repo, tag] = PAUSE_IMAGE.split(":");
  await engine.call("docker import", async () => {
    const file = Readable.from([archive("pause", pauseProgram(architecture))]);
    const answer = await docker.importImage(file, { repo, tag, changes: 'ENTRYPOINT ["/pause"]' });
    await new Promise((resolve, reject) => {
      docker.modem.followProgress(answer, (error) => (error === null ? resolve(undefined) : reject(error)));
    });
  });
}

/** An executable without a section, a library or a symbol. The first process of a container only gets signals that it asks for. */
export function pauseProgram(architecture: NodeJS.Architecture): Buffer {
  const program = PROGRAMS[architecture];
  if (program === undefined)
    throw new PlatformError(`containers of a service are not supported on ${architecture}`, "uname -m");
  const code = Buffer.from(program.code.replaceAll(" ", ""), "hex");
  const codeStart = ELF_HEADER_BYTES + PROGRAM_HEADER_BYTES;
  const file = Buffer.alloc(codeStart + code.length);
  file.write("7f454c46020101", "hex"); // magic, 64 bits, little endian, version
  file.writeUInt16LE(2, 16); // e_type: EXEC
  file.writeUInt16LE(program.machine, 18);
  file.writeUInt32LE(1, 20); // e_version
  file.writeBigUInt64LE(BigInt(LOAD_ADDRESS + codeStart), 24); // e_entry
  file.writeBigUInt64LE(BigInt(ELF_HEADER_BYTES), 32); // e_phoff
  file.writeUInt16LE(ELF_HEADER_BYTES, 52);
  file.writeUInt16LE(PROGRAM_HEADER_BYTES, 54);
  file.writeUInt16LE(1, 56); // e_phnum
  file.writeUInt32LE(1, 64); // p_type: LOAD
  file.writeUInt32LE(5, 68); // p_flags: read, execute
  file.writeBigUInt64LE(BigInt(LOAD_ADDRESS), 80); // p_vaddr
  file.writeBigUInt64LE(BigInt(LOAD_ADDRESS), 88); // p_paddr
  file.writeBigUInt64LE(BigInt(file.length), 96); // p_filesz
  file.writeBigUInt64LE(BigInt(file.length), 104); // p_memsz
  file.writeBigUInt64LE(0x10000n, 112); // p_align: the largest page
  code.copy(file, codeStart);
  return file;
}

/** A tar archive of one executable file. */
export function archive(name: string, content: Buffer): Buffer {
  const header = Buffer.alloc(BLOCK_BYTES);
  header.write(name, 0);
  header.write("0000755\0", 100); // mode
  header.write("0000000\0", 108); // owner
  header.write("0000000\0", 116); // group
  header.write(`${content.length.toString(8).padStart(11, "0")}\0`, 124);
  header.write("00000000000\0", 136); // time
  header.write("        0", 148); // checksum while it is computed, then the type: a file
  header.write("ustar\x0000", 257);
  const sum = header.reduce((total, byte) => total + byte, 0);
  header.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148);
  const padding = Buffer.alloc(BLOCK_BYTES - (content.length % BLOCK_BYTES));
  return Buffer.concat([header, content, padding, Buffer.alloc(2 * BLOCK_BYTES)]);
}
