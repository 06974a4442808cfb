// Every script by its name; those of documents and events stand here.
import { listScripts } from './list-scripts.ts';
import type { Script } from './lua.ts';
import { stepScripts } from './step-scripts.ts';

const documentScripts = {
  put: {
    kind: 'growing',
    body: `
local stands = conflict(A.puts)
if stands then return { 'conflict', stands } end
for _, p in ipairs(A.puts) do put(p) end
return { 'ok' }`,
  },
  document: { kind: 'reading', body: `return document(A.kind, A.id)` },
  documents: {
    kind: 'reading',
    body: `
local PIECE, MOST = 64, 2000
local found, before, seen = {}, A.before, 0
local last = ''
while true do
  local ids = call('ZREVRANGEBYSCORE', A.index, '(' .. before, '-inf', 'WITHSCORES', 'LIMIT', 0, PIECE)
  if #ids == 0 then return { '', found } end
  for i = 1, #ids, 2 do
    if seen >= MOST then return { last, found } end
    if not A.owner or call('HGET', P .. 'd:' .. A.kind .. ':' .. ids[i], 'owner') == A.owner then
      if #found == A.limit then return { last, found } end
      found[#found + 1] = document(A.kind, ids[i])
    end
    seen, last, before = seen + 1, ids[i + 1], ids[i + 1]
  end
end`,
  },
  dueDocuments: {
    kind: 'reading',
    body: `
local found = {}
for i, id in ipairs(call('ZRANGEBYSCORE', P .. 'dd:' .. A.kind, '-inf', A.now, 'LIMIT', 0, A.limit)) do
  found[i] = document(A.kind, id)
end
return found`,
  },
  nextDue: { kind: 'reading', body: `return call('ZRANGE', P .. 'dd:' .. A.kind, 0, 0, 'WITHSCORES')[2] or false` },
  countRef: { kind: 'reading', body: `return call('ZCARD', P .. 'dr:' .. A.kind .. ':' .. A.ref)` },
  /** An event; the stream is bounded by its length and, pictures being large, by its bytes. */
  publish: {
    kind: 'growing',
    body: `
call('XADD', P .. 'events', 'MAXLEN', '~', A.length, '*', 'e', text(1))
if call('INCRBY', P .. 'events:bytes', #text(1)) > A.bytes then
  call('XTRIM', P .. 'events', 'MAXLEN', math.floor(call('XLEN', P .. 'events') / 2))
  call('SET', P .. 'events:bytes', math.floor(A.bytes / 2))
end
return 1`,
  },
} satisfies Record<string, Script>;

export const scripts: Record<ScriptName, Script> = { ...stepScripts, ...listScripts, ...documentScripts };

export type ScriptName = keyof typeof stepScripts | keyof typeof listScripts | keyof typeof documentScripts;
