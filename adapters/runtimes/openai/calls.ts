// Tool calls out of deltas: servers that number, name or cut them wrongly still give whole calls with ids of their own.
import type { Chunk } from '../../../src/capabilities/index.ts';
import type { ToolCall } from '../../../src/capabilities/text/chat.ts';
import type { WireToolCall } from './wire.ts';

type Piece = NonNullable<Chunk<'text.chat'>['tool_calls']>[number];

export function createCalls() {
  const calls: ToolCall[] = [];
  /** The ids that the server gave, by our index. */
  const given: (string | undefined)[] = [];
  /** The server's number → our index. */
  const numbered = new Map<number, number>();

  /** undefined where this begins another call. */
  function find({ index, id, function: called }: WireToolCall): number | undefined {
    if (typeof index === 'number') {
      const known = numbered.get(index);
      // Some number every call 0; a name under another id is then another call.
      const another = known !== undefined && id && called?.name && given[known] !== undefined && given[known] !== id;
      return another ? undefined : known;
    }
    if (id) return given.includes(id) ? given.indexOf(id) : undefined;
    // Without number and id, a name begins a call and what has none goes on with the last.
    return called?.name || calls.length === 0 ? undefined : calls.length - 1;
  }

  function begin({ index, id, function: called }: WireToolCall): Piece {
    const own = id && !given.includes(id) ? id : newCallId();
    const text = toText(called?.arguments);
    const call: ToolCall = { id: own, type: 'function', function: { name: called?.name ?? '', arguments: text } };
    const at = calls.push(call) - 1;
    given.push(id || undefined);
    if (typeof index === 'number') numbered.set(index, at);
    return { index: at, id: own, name: call.function.name, arguments: text };
  }

  function add(wire: WireToolCall): Piece {
    const at = find(wire);
    if (at === undefined) return begin(wire);
    const call = calls[at]!.function;
    const text = toText(wire.function?.arguments);
    call.arguments += text;
    if (call.name !== '' || !wire.function?.name) return { index: at, arguments: text };
    call.name = wire.function.name;
    return { index: at, name: call.name, arguments: text };
  }

  /** A call without arguments has an empty object, which is what JSON.parse of them must find. */
  function finish(): Piece[] {
    return calls.flatMap(({ function: call }, index) => {
      if (call.arguments !== '') return [];
      call.arguments = '{}';
      return [{ index, arguments: '{}' }];
    });
  }

  return { calls, add, finish };
}

function toText(value: unknown): string {
  if (value === undefined || value === null) return '';
  return typeof value === 'string' ? value : JSON.stringify(value);
}

function newCallId(): string {
  return `call_${crypto.randomUUID().replaceAll('-', '').slice(0, 24)}`;
}
