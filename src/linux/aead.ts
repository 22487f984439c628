// AES-256-GCM over OpenSSL's EVP functions, in place in packet memory: five calls a packet, and nothing allocated. Node's own copy of OpenSSL
// has them, or else the system's.
//
// Addresses are numbers here, exact because they are below 2^53: koffi takes a BigInt in 13 ns and a number in 6, and a packet has twenty. A number
// above 2^31 that is read from a property is made anew at each read, one that a function has from around it is not. So the calls are closures.
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

type Context = number;

/** Offsets of what a call reads and writes beside the packet. */
interface Places {
  nonce: number;
  aad: number;
  tag: number;
  /** Where OpenSSL writes how many bytes it has written. */
  length: number;
}

interface Evp {
  cipher: number;
  newContext(): Context;
  freeContext(context: Context): void;
  control(context: Context, type: number, argument: number, pointer: number): number;
  encryptInit(context: Context, cipher: number, engine: number, key: number, nonce: number): number;
  encryptUpdate(context: Context, out: number, bytes: number, from: number, length: number): number;
  encryptFinal(context: Context, out: number, bytes: number): number;
  decryptInit(context: Context, cipher: number, engine: number, key: number, nonce: number): number;
  decryptUpdate(context: Context, out: number, bytes: number, from: number, length: number): number;
  decryptFinal(context: Context, out: number, bytes: number): number;
}

const LIBRARIES = [null, "libcrypto.so.3"] as const;
const NONE = 0;

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
    cipher: Number(cipher()),
    newContext: () => Number(newContext()),
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
  readonly #evp: Evp;
  readonly #places: Places;
  readonly #key: number;
  readonly #pointers = new Map<number, number>(); // BOUNDED: MOST_POINTERS; keyed by the offset

  /** Throws PlatformError where OpenSSL is missing. */
  constructor(memory: PacketMemory) {
    this.memory = memory;
    this.#evp = loadEvp();
    this.#key = memory.alloc(AES_KEY_BYTES);
    this.#places = {
      nonce: memory.alloc(NONCE_BYTES),
      aad: memory.alloc(MOST_AAD_BYTES),
      tag: memory.alloc(TAG_BYTES),
      length: memory.alloc(4),
    };
  }

  /** Where what is authenticated lies, for sealing() and opening() with another length of it. */
  get aad(): number {
    return this.#places.aad;
  }

  /**
   * A key for one direction; `key` has KEY_BYTES. With another length of what is authenticated, as vectors have it, the rest lies at `aad`.
   * Throws PlatformError when OpenSSL does not take it.
   */
  sealing(key: Uint8Array, aadBytes = AAD_BYTES): Aead {
    return this.#make(key, this.#begin(key, this.#evp.encryptInit), aadBytes);
  }

  /** As sealing(), for the other end. */
  opening(key: Uint8Array, aadBytes = AAD_BYTES): Aead {
    return this.#make(key, this.#begin(key, this.#evp.decryptInit), aadBytes);
  }

  /** The address of an offset. Hot path: allocates at the first use of an offset only. */
  #pointer(offset: number): number {
    const known = this.#pointers.get(offset);
    if (known !== undefined) return known;
    if (this.#pointers.size === MOST_POINTERS) this.#pointers.clear();
    const made = Number(pointerTo(this.memory, offset));
    this.#pointers.set(offset, made);
    return made;
  }

  #begin(key: Uint8Array, init: Evp["encryptInit"]): Context {
    if (key.length !== KEY_BYTES) throw new RangeError(`a key has ${KEY_BYTES} bytes, and not ${key.length}`);
    const context = this.#evp.newContext();
    const { u8 } = this.memory;
    u8.set(key.subarray(0, AES_KEY_BYTES), this.#key);
    const isTaken = context !== NONE && init(context, this.#evp.cipher, 0, this.#pointer(this.#key), NONE) === 1;
    u8.fill(0, this.#key, this.#key + AES_KEY_BYTES);
    if (!isTaken) {
      this.#evp.freeContext(context);
      throw new PlatformError("OpenSSL has no AES-256-GCM", "node -p 'crypto.getCiphers()' is to name aes-256-gcm");
    }
    return context;
  }

  #make(key: Uint8Array, context: Context, aadBytes: number): Aead {
    const { view } = this.memory;
    const { nonce, aad, tag, length } = this.#places;
    const { encryptInit, encryptUpdate, encryptFinal, decryptInit, decryptUpdate, decryptFinal, control } = this.#evp;
    const { freeContext } = this.#evp;
    const pointer = this.#pointer.bind(this);
    const nonceAt = pointer(nonce);
    const aadAt = pointer(aad);
    const tagAt = pointer(tag);
    const lengthAt = pointer(length);
    const salt = new DataView(key.buffer, key.byteOffset).getInt32(AES_KEY_BYTES);
    let isClosed = false;
    /** Nonce and AAD: RFC 4106 sections 4 and 5. */
    const prepare = (spi: number, sequence: number, ivHigh: number, ivLow: number): void => {
      view.setInt32(nonce, salt);
      view.setInt32(nonce + 4, ivHigh);
      view.setInt32(nonce + 8, ivLow);
      view.setInt32(aad, spi);
      view.setInt32(aad + 4, sequence);
    };
    return {
      seal(spi, sequence, ivHigh, ivLow, at, bytes) {
        const data = pointer(at);
        prepare(spi, sequence, ivHigh, ivLow);
        const isSealed =
          !isClosed &&
          encryptInit(context, NONE, 0, NONE, nonceAt) === 1 &&
          encryptUpdate(context, NONE, lengthAt, aadAt, aadBytes) === 1 &&
          encryptUpdate(context, data, lengthAt, data, bytes) === 1 &&
          encryptFinal(context, data, lengthAt) === 1 &&
          control(context, GET_TAG, TAG_BYTES, tagAt) === 1;
        if (!isSealed) throw new Error("a key that OpenSSL took does not seal, or was closed");
        for (let i = 0; i < TAG_BYTES; i += 4) view.setInt32(at + bytes + i, view.getInt32(tag + i));
      },
      open(spi, sequence, ivHigh, ivLow, at, bytes) {
        const data = pointer(at);
        prepare(spi, sequence, ivHigh, ivLow);
        for (let i = 0; i < TAG_BYTES; i += 4) view.setInt32(tag + i, view.getInt32(at + bytes + i));
        return (
          !isClosed &&
          decryptInit(context, NONE, 0, NONE, nonceAt) === 1 &&
          control(context, SET_TAG, TAG_BYTES, tagAt) === 1 &&
          decryptUpdate(context, NONE, lengthAt, aadAt, aadBytes) === 1 &&
          decryptUpdate(context, data, lengthAt, data, bytes) === 1 &&
          decryptFinal(context, data, lengthAt) === 1
        );
      },
      close() {
        if (isClosed) return;
        isClosed = true;
        freeContext(context); // which overwrites the key
      },
    };
  }
}
