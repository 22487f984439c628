// Join tokens: which texts are tokens, and what is said of the others.
import test from "ava";
import fc from "fast-check";
import { UserError } from "../../src/lib/errors.ts";
import { createKey, publicKeyDigest } from "../../src/trust/certificates.ts";
import { createSecret, formatToken, parseToken } from "../../src/trust/token.ts";

const TOKEN = { digest: publicKeyDigest(createKey()), secret: createSecret() };
const TEXT = formatToken(TOKEN);

test("a token is read as it was written, also with space around it", (t) => {
  t.deepEqual(parseToken(TEXT), TOKEN);
  t.deepEqual(parseToken(` ${TEXT}\n`), TOKEN);
});

const REFUSED: [what: string, text: string, message: RegExp][] = [
  ["an empty text", " ", /is empty/],
  ["a token of Docker Swarm", "SWMTKN-1-abc-def", /one begins with 'ovl-1-'/],
  ["a token of a later version", TEXT.replace("ovl-1", "ovl-2"), /another version/],
  ["a token that lost its last character", TEXT.slice(0, -1), /is cut: it has 81 characters of 82/],
  ["a token that lost its first character", TEXT.slice(1), /one begins with/],
  ["a token that lost one in the middle", TEXT.slice(0, 20) + TEXT.slice(21), /is cut/],
  ["a token with one too many", `${TEXT}x`, /is too long/],
  ["a token in capitals", `ovl-1-${TEXT.slice(6).toUpperCase()}`, /characters that no token has/],
];
for (const [what, text, message] of REFUSED) {
  test(`${what} is refused, and the error says what to type`, (t) => {
    const error = t.throws(() => parseToken(text), { name: "UserError", message });
    t.regex(error!.message, /overlayctl join-token worker/);
  });
}

test("a token with one character more, less or other is refused or is another token, and nothing else happens", (t) => {
  const position = fc.nat(TEXT.length - 1);
  fc.assert(
    fc.property(position, fc.string({ maxLength: 2, unit: "binary" }), (at, put) => {
      const text = `${TEXT.slice(0, at)}${put}${TEXT.slice(at + 1)}`;
      try {
        return formatToken(parseToken(text)) === text.trim();
      } catch (error) {
        return error instanceof UserError && error.code === 400;
      }
    }),
  );
  t.pass();
});
