// `jobs`: what was taken to be done, and what became of it.
import { defineGroup } from '../../command.ts';
import { batch } from './batch.ts';
import { cancel, retry, rm } from './change.ts';
import { download } from './download.ts';
import { ls, show } from './look.ts';
import { wait, watch } from './wait.ts';

export const jobs = defineGroup('jobs', 'Jobs: ls, show, watch, wait, cancel, retry, download, rm, batch', {
  ls,
  show,
  watch,
  wait,
  cancel,
  retry,
  download,
  rm,
  batch,
});
