// Acts as a user who may do little: the tests often run as root, who may do everything.

export async function asNobody<T>(act: () => Promise<T>): Promise<T> {
  if (process.getuid!() !== 0) return act();
  process.seteuid!(65_534);
  try {
    return await act();
  } finally {
    process.seteuid!(0);
  }
}
