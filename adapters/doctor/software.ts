// Programs and libraries of this machine: what is old, and what is missing for something that could be asked.
import { findProgram, isOlder, readText, type Check, type Draft } from './check.ts';

const AREA = 'software' as const;
const OLDEST_NODE = '22.19.0';
/** ROCm for which Ollama and PyTorch are built now. */
const OLDEST_ROCM = '6.4';

export const checkSoftware: Check = async (options) => {
  const { root = '' } = options;
  const findings: Draft[] = [checkHost(options.version)];
  const rocm = await readText(`${root}/opt/rocm/.info/version`);
  if (rocm !== undefined) {
    const version = rocm.trim().slice(0, 40);
    const old = isOlder(version, OLDEST_ROCM);
    findings.push({
      id: 'rocm',
      area: AREA,
      level: old ? 'warn' : 'ok',
      message: old ? `ROCm ${version} is older than ${OLDEST_ROCM}.` : `ROCm ${version}.`,
      ...(old ? { fix: 'Update ROCm, or run the runtimes in containers that bring their own.' } : {}),
    });
  }
  const ffmpeg = await findProgram('ffmpeg', options);
  findings.push(
    ffmpeg === undefined
      ? {
          id: 'ffmpeg',
          area: AREA,
          level: 'info',
          message: 'ffmpeg is not installed: films and sounds come only in the formats that runtimes make.',
          fix: 'sudo apt install ffmpeg',
        }
      : { id: 'ffmpeg', area: AREA, level: 'ok', message: 'ffmpeg is installed.' },
  );
  return findings;
};

function checkHost(version: string): Draft {
  const { bun, deno } = process.versions as Record<string, string | undefined>;
  const host = bun ? `Bun ${bun}` : deno ? `Deno ${deno}` : `Node ${process.versions.node}`;
  const old = !bun && !deno && isOlder(process.versions.node, OLDEST_NODE);
  return {
    id: 'host',
    area: AREA,
    level: old ? 'warn' : 'ok',
    message: old ? `Node ${process.versions.node} is older than ${OLDEST_NODE}.` : `hono-ai ${version} on ${host}.`,
    ...(old ? { fix: 'npm start brings a newer one; or install Node 24.' } : {}),
  };
}
