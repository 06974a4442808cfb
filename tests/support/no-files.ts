// For calls whose input names no file.
export const noFiles = (): never => {
  throw new Error('This call has no files.');
};

/** The same for jobs: what they make is passed on as it is. */
export const noJobFiles = {
  open: () => noFiles,
  finish: async <File>(files: File[]) => ({ files, warnings: [] }),
  identify: async (_owner: string, _capability: string, input: Record<string, unknown>) => input,
};
