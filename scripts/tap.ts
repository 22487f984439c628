// Reads the TAP (Test Anything Protocol, version 13) that ava prints, one line at a time.

export interface TestResult {
  outcome: "passed" | "failed" | "skipped";
  name: string;
  /** The YAML block and comments that follow a test that failed. */
  details: string[];
}

export class TapReader {
  results = 0;
  failures = 0;
  readonly #onResult: (result: TestResult) => void;
  /** A failure that waits for the lines that explain it. */
  #open: TestResult | undefined;

  constructor(onResult: (result: TestResult) => void) {
    this.#onResult = onResult;
  }

  read(line: string): void {
    const match = /^(not )?ok \d+ - (.*?)(?: # (SKIP|TODO).*)?$/.exec(line);
    if (match === null) {
      if (this.#open !== undefined && /^\s|^#\s{2,}/.test(line)) this.#open.details.push(line);
      return;
    }
    this.end();
    const [, not, name = "", directive] = match;
    const outcome = directive !== undefined ? "skipped" : not === undefined ? "passed" : "failed";
    this.results++;
    const result: TestResult = { outcome, name, details: [] };
    if (outcome === "failed") {
      this.failures++;
      this.#open = result;
    } else {
      this.#onResult(result);
    }
  }

  /** No more lines: hands out what was held back. */
  end(): void {
    if (this.#open !== undefined) this.#onResult(this.#open);
    this.#open = undefined;
  }
}
