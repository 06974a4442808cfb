// Waiting in tests for what another process or a runtime does.

/** Waits until a condition holds; fails with `what` when it does not within `ms`. */
export async function eventually(what: string, condition: () => boolean, ms = 1000): Promise<void> {
  const end = performance.now() + ms;
  while (!condition()) {
    if (performance.now() > end) throw new Error(`not within ${ms} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}
