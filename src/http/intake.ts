// What was parsed of a file and is not taken yet: between one who is given pieces and one who reads at a pace of its own.

export interface Intake {
  push(chunk: Uint8Array): void;
  end(): void;
  fail(error: unknown): void;
  /** Nobody reads any more: the rest is thrown away. */
  close(): void;
  isClosed(): boolean;
  idle(): boolean;
  drained(): Promise<void>;
  bytes: AsyncIterable<Uint8Array>;
}

export function createIntake(): Intake {
  const chunks: Uint8Array[] = [];
  let ended = false;
  let closed = false;
  let failure: { error: unknown } | undefined;
  let onPush = () => {};
  let onDrained = () => {};

  const next = () => {
    if (failure) throw failure.error;
    return chunks.shift();
  };

  async function* take(): AsyncGenerator<Uint8Array> {
    for (;;) {
      for (let chunk = next(); chunk; chunk = next()) yield chunk;
      onDrained();
      if (ended) return;
      await new Promise<void>((resolve) => (onPush = resolve));
    }
  }

  const close = () => {
    closed = true;
    chunks.length = 0;
    onDrained();
  };
  return {
    push(chunk) {
      if (closed) return;
      chunks.push(chunk);
      onPush();
    },
    end() {
      ended = true;
      onPush();
    },
    fail(error) {
      if (!ended || chunks.length > 0) failure = { error };
      onPush();
    },
    close,
    isClosed: () => closed,
    idle: () => chunks.length === 0,
    drained: () => (chunks.length === 0 ? Promise.resolve() : new Promise((resolve) => (onDrained = resolve))),
    bytes: take(),
  };
}
