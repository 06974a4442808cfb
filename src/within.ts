// Waiting no longer than one likes to, whatever hangs.

/** Undefined where it has not settled by then; it goes on by itself. Rejects where it rejects in time. */
export async function within<T>(ms: number, promise: T | Promise<T>): Promise<T | undefined> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<undefined>((resolve) => {
    timer = setTimeout(resolve, ms, undefined);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}
