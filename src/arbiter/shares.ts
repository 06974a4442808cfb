// How much of the card each caller has used lately: the card's time, split among all who used it at once, and fading.

export interface Shares {
  /** The caller begins to use the card; what it returns ends that, and tells the milliseconds of the card that it had. */
  begin(caller: string): () => number;
  /** Milliseconds of the card, against the caller's share. */
  usage(caller: string): number;
}

/** After this long what was used counts a third, in milliseconds. */
const FADE_MS = 600_000;
const MAX_CALLERS = 10_000;

interface Account {
  used: number;
  /** Uses that go on. */
  active: number;
  /** What it was brought up to: the time, and the meter. */
  at: number;
  meter: number;
}

export function createShares(options: { now: () => number; shareOf?: (caller: string) => number }): Shares {
  const { now, shareOf = () => 1 } = options;
  const accounts = new Map<string, Account>();
  /** Milliseconds of the card that each of those who use it has had so far: it runs slower the more they are. */
  let meter = 0;
  let active = 0;
  let readAt = now();

  function read(): number {
    const at = now();
    if (active > 0) meter += Math.max(0, at - readAt) / active;
    readAt = at;
    return at;
  }

  function settle(account: Account): void {
    const at = read();
    account.used =
      account.used * Math.exp(-Math.max(0, at - account.at) / FADE_MS) + account.active * (meter - account.meter);
    account.at = at;
    account.meter = meter;
  }

  function open(caller: string): Account {
    let account = accounts.get(caller);
    if (!account) {
      account = { used: 0, active: 0, at: read(), meter };
      if (accounts.size >= MAX_CALLERS) forgetIdle();
      accounts.set(caller, account);
    }
    settle(account);
    return account;
  }

  function forgetIdle(): void {
    for (const [caller, account] of accounts) if (account.active === 0) return void accounts.delete(caller);
  }

  return {
    begin(caller) {
      const account = open(caller);
      account.active++;
      active++;
      const from = meter;
      let used: number | undefined;
      return () => {
        if (used !== undefined) return used;
        settle(account);
        account.active--;
        active--;
        return (used = meter - from);
      };
    },
    usage(caller) {
      const account = accounts.get(caller);
      if (!account) return 0;
      settle(account);
      return account.used / Math.max(shareOf(caller), 0.001);
    },
  };
}
