// Chance as a parameter: a seeded source in tests, the system's otherwise.
import { randomInt } from "node:crypto";
import { customAlphabet } from "nanoid";

/** Uniform in [0, 1). */
export type Random = () => number;

export const systemRandom: Random = Math.random;

/** As systemRandom, but the next number cannot be guessed. */
export const secureRandom: Random = () => randomInt(2 ** 32) / 2 ** 32;

/** A new id: 25 characters of a-z0-9. */
export const newId: () => string = customAlphabet("0123456789abcdefghijklmnopqrstuvwxyz", 25);
