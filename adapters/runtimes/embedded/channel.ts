// A queue between one who pushes events and one who iterates over them.
export function createChannel<T>() {
  const waiting: T[] = [];
  let end: { error: unknown } | 'done' | undefined;
  let wake: (() => void) | undefined;
  const settle = (how: NonNullable<typeof end>) => {
    end ??= how;
    wake?.();
  };
  return {
    push(event: T) {
      if (end) return;
      waiting.push(event);
      wake?.();
    },
    end: () => settle('done'),
    /** What was pushed before is still delivered, then the error is thrown. */
    fail: (error: unknown) => settle({ error }),
    async *events(): AsyncGenerator<T, void> {
      for (;;) {
        while (waiting.length > 0) yield waiting.shift()!;
        if (end === 'done') return;
        if (end) throw end.error;
        await new Promise<void>((resolve) => (wake = resolve));
      }
    },
  };
}
