// A watchdog on whichever engine runs this: restarts by a command, ends one that hangs, minds one that is not there, and ends itself.
import { runCommand } from '../../adapters/house/command.ts';
import { createWatchdog } from '../../adapters/house/watchdog.ts';

const [folder = ''] = process.argv.slice(2);
const env = { PATH: `${folder}:${process.env['PATH']}` };
const restart = { r: `good 'two words'`, stuck: 'hangs', gone: 'nowhere' };
const messages: string[] = [];
const watchdog = createWatchdog({
  restart,
  health: async () => {},
  log: ({ message, output }) => void messages.push(typeof output === 'string' ? output : message),
  env,
  limits: { command: 500 },
});
const outcomes = await Promise.all(Object.keys(restart).map((name) => watchdog(name, 'silent')));
const { code } = await runCommand([`${folder}/nowhere`], { env, ms: 1000 });
process.stdout.write(`${JSON.stringify({ outcomes, messages, code: code ?? null })}\n`);
