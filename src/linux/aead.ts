// AES-256-GCM over OpenSSL's EVP functions, in place in packet memory: five calls a packet, and nothing allocated. Node's own copy of OpenSSL
// has them, or else the system's.
import koffi, { type KoffiFunc } from "koffi";
import type { Aead } from "../datapath/ports.ts";
import { PlatformError } from "../lib/errors.ts";
import type { PacketMemory } from "../packet/memory.ts";
import { pointerTo } from "./libc.ts";

/** RFC 4106 section 8.1: the key and the salt, in this order. */
export const KEY_BYTES = 36;
export const TAG_BYTES = 16;
const AES_KEY_BYTES = 32;
/** SPI and sequence. */
const AAD_BYTES = 8;
const MOST_AAD_BYTES = 128;
const NONCE_BYTES = 12;
/** Pointers to places in packet memory that are kept; with more all are made anew. */
const MOST_POINTERS = 65_536;

// evp.h
const GET_TAG = 0x10;
const SET_TAG = 0x11;

type Context = bigint;

interface Evp {
  cipher: bigint;
  newContext(): Context;
  freeContext(context: Context): void;
  control(context: Context, type: number, argument: number, pointer: bigint): number;
  encryptInit(context: Context, cipher: bigint, engine: number, key: bigint, nonce: bigint): number;
  encryptUpdate(context: Context, out: bigint, bytes: bigint, from: bigint, length: number): number;
  encryptFinal(context: Context, out: bigint, bytes: bigint): number;
  decryptInit(context: Context, cipher: bigint, engine: number, key: bigint, nonce: bigint): number;
  decryptUpdate(context: Context, out: bigint, bytes: bigint, from: bigint, length: number): number;
  decryptFinal(context: Context, out: bigint, bytes: bigint): number;
}

const LIBRARIES = [null, "libcrypto.so.3"] as const;
const NONE = 0n;

/** Node's binary has OpenSSL in it; one that is built otherwise has it beside it. */
function loadEvp(): Evp {
  const reasons: string[] = [];
  for (const name of LIBRARIES) {
    try {
      return bindEvp(koffi.load(name as string));
    } catch (error) {
      reasons.push((error as Error).message);
    }
  }
  throw new PlatformError(
    `no OpenSSL for encrypted networks: ${reasons.join("; ")}`,
    "install OpenSSL 3 (Debian: apt-get install libssl3), or a Node.js with its own",
  );
}

function bindEvp(library: ReturnType<typeof koffi.load>): Evp {
  const bind = <T>(name: string, result: string, ...parameters: string[]): T =>
    library.func(name, result, parameters) as KoffiFunc<never> as T;
  const init = ["uintptr_t", "uintptr_t", "uintptr_t", "uintptr_t", "uintptr_t"];
  const update = ["uintptr_t", "uintptr_t", "uintptr_t", "uintptr_t", "int"];
  const final = ["uintptr_t", "uintptr_t", "uintptr_t"];
  const newContext = bind<() => bigint | number>("EVP_CIPHER_CTX_new", "uintptr_t");
  const cipher = bind<() => bigint | number>("EVP_aes_256_gcm", "uintptr_t");
  return {
    cipher: BigInt(cipher()),
    newContext: () => BigInt(newContext()),
    freeContext: bind("EVP_CIPHER_CTX_free", "void", "uintptr_t"),
    control: bind("EVP_CIPHER_CTX_ctrl", "int", "uintptr_t", "int", "int", "uintptr_t"),
    encryptInit: bind("EVP_EncryptInit_ex", "int", ...init),
    encryptUpdate: bind("EVP_EncryptUpdate", "int", ...update),
    encryptFinal: bind("EVP_EncryptFinal_ex", "int", ...final),
    decryptInit: bind("EVP_DecryptInit_ex", "int", ...init),
    decryptUpdate: bind("EVP_DecryptUpdate", "int", ...update),
    decryptFinal: bind("EVP_DecryptFinal_ex", "int", ...final),
  };
}

/** A thread's AES-GCM: the places that all its keys share. */
export class AeadEngine {
  readonly memory: PacketMemory;
  readonly evp: Evp;
  /** Offsets of what a call reads and writes beside the packet. */
  readonly nonce: number;
  readonly aad: number;
  readonly tag: number;
  readonly noncePointer: bigint;
  readonly aadPointer: bigint;
  readonly tagPointer: bigint;
  /** Where OpenSSL writes how many bytes it has written. */
  readonly lengthPointer: bigint;
  readonly #key: number;
  readonly #keyPointer: bigint;
  readonly #pointers = new Map<number, bigint>(); // BOUNDED: MOST_POINTERS; keyed by the offset

  /** Throws PlatformError where OpenSSL is missing, or finds another answer than the standard's. */
  constructor(memory: PacketMemory) {
    this.memory = memory;
    this.evp = loadEvp();
    this.nonce = memory.alloc(NONCE_BYTES);
    this.aad = memory.alloc(MOST_AAD_BYTES);
    this.tag = memory.alloc(TAG_BYTES);
    this.#key = memory.alloc(AES_KEY_BYTES);
    this.noncePointer = pointerTo(memory, this.nonce);
    this.aadPointer = pointerTo(memory, this.aad);
    this.tagPointer = pointerTo(memory, this.tag);
    this.lengthPointer = pointerTo(memory, memory.alloc(4));
    this.#keyPointer = pointerTo(memory, this.#key);
  }

  /**
   * A key for one direction; `key` has KEY_BYTES. With another length of what is authenticated, as vectors have it, the rest lies at `aad`.
   * Throws PlatformError when OpenSSL does not take it.
   */
  sealing(key: Uint8Array, aadBytes = AAD_BYTES): Aead {
    return new Aes256Gcm(this, key, this.#begin(key, this.evp.encryptInit), aadBytes);
  }

  /** As sealing(), for the other end. */
  opening(key: Uint8Array, aadBytes = AAD_BYTES): Aead {
    return new Aes256Gcm(this, key, this.#begin(key, this.evp.decryptInit), aadBytes);
  }

  /** The address of an offset. Hot path: allocates at the first use of an offset only. */
  pointer(offset: number): bigint {
    const known = this.#pointers.get(offset);
    if (known !== undefined) return known;
    if (this.#pointers.size === MOST_POINTERS) this.#pointers.clear();
    const made = pointerTo(this.memory, offset);
    this.#pointers.set(offset, made);
    return made;
  }

  #begin(key: Uint8Array, init: Evp["encryptInit"]): Context {
    if (key.length !== KEY_BYTES) throw new RangeError(`a key has ${KEY_BYTES} bytes, and not ${key.length}`);
    const context = this.evp.newContext();
    const { u8 } = this.memory;
    u8.set(key.subarray(0, AES_KEY_BYTES), this.#key);
    const isTaken = context !== NONE && init(context, this.evp.cipher, 0, this.#keyPointer, NONE) === 1;
    u8.fill(0, this.#key, this.#key + AES_KEY_BYTES);
    if (!isTaken) {
      this.evp.freeContext(context);
      throw new PlatformError("OpenSSL has no AES-256-GCM", "node -p 'crypto.getCiphers()' is to name aes-256-gcm");
    }
    return context;
  }
}

class Aes256Gcm implements Aead {
  readonly #engine: AeadEngine;
  readonly #view: DataView;
  readonly #salt: number;
  readonly #aadBytes: number;
  #context: Context;

  constructor(engine: AeadEngine, key: Uint8Array, context: Context, aadBytes: number) {
    this.#engine = engine;
    this.#view = engine.memory.view;
    this.#salt = new DataView(key.buffer, key.byteOffset).getInt32(AES_KEY_BYTES);
    this.#aadBytes = aadBytes;
    this.#context = context;
  }

  seal(spi: number, sequence: number, ivHigh: number, ivLow: number, at: number, bytes: number): void {
    const { evp, noncePointer, aadPointer, tagPointer, lengthPointer, tag } = this.#engine;
    const context = this.#context;
    const data = this.#engine.pointer(at);
    this.#prepare(spi, sequence, ivHigh, ivLow);
    const isSealed =
      context !== NONE &&
      evp.encryptInit(context, NONE, 0, NONE, noncePointer) === 1 &&
      evp.encryptUpdate(context, NONE, lengthPointer, aadPointer, this.#aadBytes) === 1 &&
      evp.encryptUpdate(context, data, lengthPointer, data, bytes) === 1 &&
      evp.encryptFinal(context, data, lengthPointer) === 1 &&
      evp.control(context, GET_TAG, TAG_BYTES, tagPointer) === 1;
    if (!isSealed) throw new Error("a key that OpenSSL took does not seal, or was closed");
    const view = this.#view;
    for (let i = 0; i < TAG_BYTES; i += 4) view.setInt32(at + bytes + i, view.getInt32(tag + i));
  }

  open(spi: number, sequence: number, ivHigh: number, ivLow: number, at: number, bytes: number): boolean {
    const { evp, noncePointer, aadPointer, tagPointer, lengthPointer, tag } = this.#engine;
    const context = this.#context;
    const data = this.#engine.pointer(at);
    const view = this.#view;
    this.#prepare(spi, sequence, ivHigh, ivLow);
    for (let i = 0; i < TAG_BYTES; i += 4) view.setInt32(tag + i, view.getInt32(at + bytes + i));
    return (
      context !== NONE &&
      evp.decryptInit(context, NONE, 0, NONE, noncePointer) === 1 &&
      evp.control(context, SET_TAG, TAG_BYTES, tagPointer) === 1 &&
      evp.decryptUpdate(context, NONE, lengthPointer, aadPointer, this.#aadBytes) === 1 &&
      evp.decryptUpdate(context, data, lengthPointer, data, bytes) === 1 &&
      evp.decryptFinal(context, data, lengthPointer) === 1
    );
  }

  close(): void {
    this.#engine.evp.freeContext(this.#context); // which overwrites the key, and does nothing when there is none
    this.#context = NONE;
  }

  /** Nonce and AAD: RFC 4106 sections 4 and 5. */
  #prepare(spi: number, sequence: number, ivHigh: number, ivLow: number): void {
    const { nonce, aad } = this.#engine;
    const view = this.#view;
    view.setInt32(nonce, this.#salt);
    view.setInt32(nonce + 4, ivHigh);
    view.setInt32(nonce + 8, ivLow);
    view.setInt32(aad, spi);
    view.setInt32(aad + 4, sequence);
  }
}
