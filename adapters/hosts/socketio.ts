// The door to Socket.IO: the library is loaded by the first who knocks, for starting must not cost what is seldom used.
import type { Realtime } from '../../src/realtime/realtime.ts';
import type { SocketIo } from '../../src/realtime/socketio.ts';

/** Ends with `realtime`. */
export function openSocketIo(realtime: Realtime): SocketIo {
  let loading: Promise<SocketIo> | undefined;
  const load = async () => (await import('./socketio-engine.ts')).createSocketIo(realtime);
  return async (request, caller) => {
    const speak = await (loading ??= load());
    return speak(request, caller);
  };
}
