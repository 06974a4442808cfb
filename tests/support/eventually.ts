// Waiting in tests for what another process or a runtime does.

/** Far more than anything takes: a machine may be slow. */
const PATIENCE_MS = 20_000;

/** Waits until a condition holds; fails with `what` when it never does. */
export async function eventually(what: string, condition: () => boolean): Promise<void> {
  const end = performance.now() + PATIENCE_MS;
  while (!condition()) {
    if (performance.now() > end) throw new Error(`not within ${PATIENCE_MS} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}
