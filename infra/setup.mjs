// Installs what is missing before `npm start` and `npm test`. Plain JavaScript: it runs on whatever Node is there.
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const mode = process.argv[2] ?? 'test';
const marker = join(root, 'node_modules', '.hono-ai-setup');
const QUIET = ['--no-audit', '--no-fund', '--loglevel=error'];
const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
const wanted = createHash('sha256')
  .update(readFileSync(join(root, 'package-lock.json')))
  .digest('hex');

installPackages();
if (mode === 'test') installBrowser();

function installPackages() {
  const [have, scope] = existsSync(marker) ? readFileSync(marker, 'utf8').split(' ') : [];
  // What tests need includes what serving needs.
  if (have === wanted && (scope === mode || scope === 'test')) return;
  say(
    mode === 'serve'
      ? 'installing what serving needs (about 250 MB, once) …'
      : 'installing what the tests need (about 1 GB, once) …',
  );
  // Not `npm ci`: it refuses a lock file that was written where another system's optional binaries were out of reach.
  npm(['install', '--no-save', ...QUIET, ...(mode === 'serve' ? ['--omit=dev'] : [])]);
  if (mode === 'serve' && !isRecent(process.versions.node)) {
    const version = manifest.devDependencies.node;
    say(`this Node (${process.versions.node}) is too old to serve; adding node@${version} to node_modules …`);
    // Under another name, because --omit=dev leaves out whatever is a devDependency.
    npm(['install', '--no-save', '--omit=dev', ...QUIET, `node-runtime@npm:node@${version}`]);
  }
  writeFileSync(marker, `${wanted} ${mode}`);
}

/** The tests of the pages run in a real browser where there is one. */
function installBrowser() {
  const found = ['chromium', 'chromium-browser', 'google-chrome'].some(
    (name) => run('sh', ['-c', `command -v ${name}`]) === 0,
  );
  if (found) return;
  const mayInstall = process.getuid?.() === 0 && run('sh', ['-c', 'command -v apt-get']) === 0;
  if (mayInstall) {
    say('installing chromium for the browser tests …');
    run('apt-get', ['update', '-qq']);
    const options = { env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' } };
    if (run('apt-get', ['install', '-y', '-qq', '--no-install-recommends', 'chromium'], options) === 0) return;
  }
  say('chromium is missing, so the browser tests are skipped; to have them: sudo apt-get install chromium');
}

function npm(args) {
  const { status } = spawnSync('npm', args, {
    cwd: root,
    stdio: ['ignore', 'ignore', 'inherit'],
    shell: process.platform === 'win32',
  });
  if (status === 0) return;
  say(`npm ${args[0]} failed; the lines above say why. Is the package registry reachable?`);
  process.exit(1);
}

function run(command, args, options = {}) {
  return spawnSync(command, args, { stdio: 'ignore', ...options }).status;
}

function isRecent(version) {
  const [major, minor] = version.split('.').map(Number);
  return major > 22 || (major === 22 && minor >= 19);
}

function say(line) {
  console.error(`hono-ai: ${line}`);
}
