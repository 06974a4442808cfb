// The tree of commands. What is not a capability is loaded only when it is called.
import { toLeaves, type Command, type Group } from '../command.ts';

type Found = Command | Group;

const local: Record<string, () => Promise<Found>> = {
  serve: async () => (await import('./serve.ts')).serve,
  jobs: async () => (await import('./jobs/index.ts')).jobs,
  artifacts: async () => (await import('./artifacts.ts')).artifacts,
  hooks: async () => (await import('./hooks.ts')).hooks,
  models: async () => (await import('./models/index.ts')).models,
  ps: async () => (await import('./models/memory.ts')).ps,
  gpu: async () => (await import('./gpu/index.ts')).gpu,
  doctor: async () => (await import('./doctor.ts')).doctor,
  workflows: async () => (await import('./workflows/index.ts')).workflows,
  status: async () => (await import('./status.ts')).status,
  config: async () => (await import('./config.ts')).config,
  api: async () => (await import('./api.ts')).api,
  completion: async () => (await import('./completion.ts')).createCompletion(loadCommands),
  version: async () => (await import('./version.ts')).version,
};

/** What the first word names: a command, or a group that a second word chooses from. */
export async function findCommand(noun: string): Promise<Found | undefined> {
  if (Object.hasOwn(local, noun)) return local[noun]!();
  const groups = await loadCapabilities();
  return Object.hasOwn(groups, noun) ? groups[noun] : undefined;
}

/** Every command, for help and completion. */
export async function loadCommands(): Promise<Command[]> {
  const found = [
    ...Object.values(await loadCapabilities()),
    ...(await Promise.all(Object.values(local).map((load) => load()))),
  ];
  return found.flatMap(toLeaves);
}

async function loadCapabilities(): Promise<Record<string, Group>> {
  return (await import('./capability.ts')).loadGroups();
}
