// `artifacts`: files that jobs made, and files that were brought.
import { basename } from 'node:path';
import { defineGroup, defineLeaf } from '../command.ts';
import { usageError } from '../exit.ts';
import { fetchFiles } from '../fetch.ts';
import { idArgument, readIds } from '../ids.ts';
import { pageFlags, printList, printWhole } from '../pages.ts';
import { defineRemoval } from '../remove.ts';
import { saveFlags } from '../save.ts';
import { toSize } from '../sizes.ts';
import { readStdinBytes } from '../stdin.ts';
import { askJson, withTarget, type Target } from '../target.ts';
import { openFile, uploadFile, type Artifact } from '../upload.ts';

const ls = defineLeaf({
  path: 'artifacts ls',
  summary: 'List files, newest first',
  flags: { job: { type: 'string', valueHint: 'ID', description: 'Only of this job.' }, ...pageFlags },
  run: (invocation) =>
    withTarget(invocation, async (target) => {
      const count = await printList<Artifact>(invocation, target, '/artifacts', {
        query: { job: invocation.flags['job'] as string | undefined },
        head: ['ARTIFACT', 'TYPE', 'SIZE', 'CREATED', 'JOB', 'NAME'],
        toRow: ({ id, media_type, size, created_at, job, name }) => [
          id,
          media_type,
          invocation.io.stdout.isTTY ? toSize(size) : String(size),
          created_at ?? '-',
          job ?? '-',
          name,
        ],
      });
      if (count === 0) invocation.out.note('No files.');
    }),
});

const show = defineLeaf({
  path: 'artifacts show',
  summary: 'Show all about files, and how they were made',
  argument: idArgument('ID'),
  flags: {},
  async run(invocation) {
    const ids = await readIds(invocation);
    await withTarget(invocation, async (target) => {
      const seen: Artifact[] = [];
      for (const id of ids) seen.push(await getArtifact(target, id));
      printWhole(invocation, seen);
    });
  },
});

const download = defineLeaf({
  path: 'artifacts download',
  summary: 'Save files',
  details: 'Into this folder under their own names, unless -o says otherwise. Nothing is written over without --force.',
  argument: idArgument('ID'),
  flags: saveFlags,
  async run(invocation) {
    const { out, flags } = invocation;
    const ids = await readIds(invocation);
    await withTarget(invocation, async (target, signal) => {
      const found: Artifact[] = [];
      for (const id of ids) found.push(await getArtifact(target, id));
      const saved = await fetchFiles(
        invocation,
        target,
        signal,
        found.map(({ id, name, sha256, size }) => ({ id, name, sha256, size })),
      );
      if (flags.json) out.json({ object: 'list', data: saved });
    });
  },
});

const rm = defineRemoval({
  command: 'artifacts rm',
  summary: 'Delete files',
  toPath: (id) => `/artifacts/${id}`,
  told: 'deleted',
});

const upload = defineLeaf({
  path: 'artifacts upload',
  summary: 'Bring files, and print their ids',
  argument: {
    hint: 'FILE…|-',
    description: '- is standard input; --name says what it is called.',
    max: Infinity,
    completes: 'file',
  },
  flags: {
    name: { type: 'string', valueHint: 'NAME', description: 'What the file is called there.' },
    type: { type: 'string', valueHint: 'TYPE', description: 'Its media type, where its bytes do not tell.' },
  },
  async run(invocation) {
    const { words, out, flags } = invocation;
    if (words.length === 0) throw usageError('artifacts upload needs FILE, or - for standard input.');
    if (flags['name'] !== undefined && words.length > 1) throw usageError('--name is for a single file.');
    await withTarget(invocation, async (target) => {
      const made: Artifact[] = [];
      for (const word of words) {
        const body = word === '-' ? new Blob([new Uint8Array(await readStdinBytes(invocation))]) : await openFile(word);
        const name = (flags['name'] as string | undefined) ?? (word === '-' ? 'stdin' : basename(word));
        const type = flags['type'] as string | undefined;
        const artifact = await uploadFile(target, { name, body, ...(type === undefined ? {} : { type }) });
        made.push(artifact);
        if (!flags.json) out.line(artifact.id);
        out.note(`${word}: ${artifact.media_type}, ${toSize(artifact.size)}`);
      }
      if (flags.json) out.json(made.length === 1 ? made[0] : { object: 'list', data: made });
    });
  },
});

export const artifacts = defineGroup('artifacts', 'Files: ls, show, download, rm, upload', {
  ls,
  show,
  download,
  rm,
  upload,
});

function getArtifact(target: Target, id: string): Promise<Artifact> {
  return askJson<Artifact>(target, { method: 'GET', path: `/artifacts/${id}` });
}
