// Numbers of bytes, as people read them.

/** `0 B`, `5.2 GB`: powers of 1000, as download pages and disks count. */
export function toSize(bytes: number): string {
  if (bytes < 1000) return `${bytes} B`;
  const units = ['kB', 'MB', 'GB', 'TB'];
  const power = Math.min(units.length, Math.floor(Math.log10(bytes) / 3));
  return `${(bytes / 1000 ** power).toFixed(1)} ${units[power - 1]}`;
}

/** `6.5 GiB`: powers of 1024, as cards are sold. */
export function toMemory(bytes: number): string {
  return `${(bytes / 1024 ** 3).toFixed(1)} GiB`;
}
