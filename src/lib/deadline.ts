// Waiting for another process or machine, which may never answer.
export class DeadlineError extends Error {
  override name = "DeadlineError";
}

/** Resolves to the result of `call`. Rejects with DeadlineError after `ms`, and aborts the signal that `call` was given. */
export async function withDeadline<T>(ms: number, call: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const abort = new AbortController();
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => {
      reject(new DeadlineError(`no answer within ${ms / 1000} s`));
      abort.abort();
    }, ms);
  });
  const answer = call(abort.signal);
  answer.catch(() => {}); // after the deadline no caller waits for it
  try {
    return await Promise.race([answer, late]);
  } finally {
    clearTimeout(timer);
  }
}
