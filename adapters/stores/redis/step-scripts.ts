// The scripts that change jobs: each is one step, done whole or not at all.
import type { Script } from './lua.ts';

export const stepScripts = {
  /** Jobs and documents; for each job that may start at once, its ticket. `lenient` skips what is there already. */
  add: {
    kind: 'growing',
    body: `
local stands = conflict(A.puts)
if stands and not A.lenient then return { 'conflict', stands } end
for _, p in ipairs(A.puts) do
  if not A.lenient or call('EXISTS', P .. 'd:' .. p.kind .. ':' .. p.id) == 0 then put(p) end
end
local tickets = {}
for _, n in ipairs(A.jobs) do
  local key = P .. 'j:' .. n.id
  if call('EXISTS', key) == 0 then
    call('HSET', key, 'seq', call('INCR', P .. 'seq'), 'turn', 0, 'state', 'queued', unpack(n.fields))
    call('HSET', P .. 'b:' .. n.id, 'input', n.input and text(n.input) or '', 'notes', text(n.notes))
    local j = load(n.id)
    if j.batch then call('ZADD', P .. 'bi:' .. j.batch, j.index or j.seq, j.id) end
    wait(j, n.runAt, n.ready)
    if n.ended then close(j, n.ended) elseif n.ready then tickets[#tickets + 1] = ticket(j) end
  end
end
return { 'ok', tickets }`,
  },
  /** Tickets for what may start by now and has none, and whether anything waits. */
  due: {
    kind: 'going on',
    body: `
local tickets = {}
for _, id in ipairs(call('ZRANGEBYSCORE', P .. 'outbox', '-inf', A.now, 'LIMIT', 0, A.limit)) do
  local j = load(id)
  if j and j.state == 'queued' then tickets[#tickets + 1] = ticket(j) else call('ZREM', P .. 'outbox', id) end
end
return { call('ZCARD', A.order) + call('LLEN', A.wait), tickets }`,
  },
  /** These tickets are out. A job that was sent back meanwhile needs another one. */
  settle: {
    kind: 'going on',
    body: `
for _, t in ipairs(A.tickets) do
  if call('HGET', P .. 'j:' .. t[1], 'turn') == t[2] then call('ZREM', P .. 'outbox', t[1]) end
end
tell()
return 1`,
  },
  /** A ticket → the job, running; nothing where the ticket is an old one. */
  claim: {
    kind: 'going on',
    body: `
local j = load(A.id)
if not j or j.state ~= 'queued' or j.turn ~= A.turn then return false end
start(j, A.worker, A.now)
return record(j.id)`,
  },
  beat: {
    kind: 'going on',
    body: `
local lost, cancelled = {}, {}
for _, h in ipairs(A.held) do
  local f = call('HMGET', P .. 'j:' .. h.id, 'state', 'fence', 'cancelled')
  if f[1] ~= 'running' or tonumber(f[2]) ~= h.fence then
    lost[#lost + 1] = h.id
  else
    call('HINCRBY', P .. 'j:' .. h.id, 'beat', 1)
    if f[3] then cancelled[#cancelled + 1] = h.id end
  end
end
return { lost, cancelled }`,
  },
  finish: {
    kind: 'going on',
    body: `
local j = load(A.id)
if not j or j.state ~= 'running' or tonumber(j.fence) ~= A.fence then return 0 end
if conflict(A.puts) then return -1 end
close(j, A.outcome)
for _, p in ipairs(A.puts) do put(p) end
return 1`,
  },
  requeue: {
    kind: 'going on',
    body: `
local j = load(A.id)
if not j or j.state ~= 'running' or tonumber(j.fence) ~= A.fence then return 0 end
leave(j)
if A.refund then j.attempts = call('HINCRBY', j.key, 'attempts', -1) end
call('HDEL', j.key, 'worker')
note(j, A.notes)
wait(j, A.runAt, A.ready)
return 1`,
  },
  /** What came of it, and the ticket that is void now. */
  stop: {
    kind: 'going on',
    body: `
local j = load(A.id)
if not j then return { 'gone' } end
if j.state == 'queued' then
  if conflict(A.puts) then return { 'conflict' } end
  close(j, A.outcome)
  for _, p in ipairs(A.puts) do put(p) end
  return { 'stopped', j.seq, j.turn }
end
if j.state ~= 'running' then return { 'ended' } end
call('HSET', j.key, 'cancelled', 1)
tell()
return { 'marked' }`,
  },
  revive: {
    kind: 'growing',
    body: `
local j = load(A.id)
if not j or (j.state ~= 'failed' and j.state ~= 'cancelled') then return false end
leave(j)
j.attempts = 0
-- Its time counts from now: in all it would often be over at once.
j.since = math.max(j.since, A.at)
call('HSET', j.key, 'attempts', 0, 'since', j.since)
call('HDEL', j.key, 'tag', 'startedAt', 'finishedAt', 'cancelled', 'worker')
call('HDEL', j.body, 'error', 'result')
wait(j, A.at, A.ready)
return record(j.id)`,
  },
  sweep: {
    kind: 'going on',
    body: `
local ids = call('ZRANGEBYSCORE', P .. 'finished', '-inf', '(' .. A.before, 'LIMIT', 0, A.limit)
for _, id in ipairs(ids) do
  local j = load(id)
  if j then erase(j) else call('ZREM', P .. 'finished', id) end
end
return ids`,
  },
  /** `gone` tells other gateways that the job was not lost. */
  remove: {
    kind: 'going on',
    body: `
local j = load(A.id)
if not j or j.state == 'queued' or j.state == 'running' then return 0 end
erase(j)
call('SET', P .. 'gone:' .. A.id, 1, 'EX', A.seconds)
return 1`,
  },
  /** Takes back jobs that were not promised after all, and documents that came with them; leaves what has begun. */
  withdraw: {
    kind: 'going on',
    body: `
for _, id in ipairs(A.ids) do
  local j = load(id)
  if j and j.state == 'queued' then erase(j) end
end
for _, p in ipairs(A.puts) do put(p) end
return 1`,
  },
  /** A part of all that waits, round and round: what has lost its ticket gets another one; the void ones are told. */
  mend: {
    kind: 'going on',
    body: `
local scan = call('ZSCAN', P .. 'deadlines', A.cursor, 'COUNT', A.limit)
local void = {}
for i = 1, #scan[2], 2 do
  local j = load(scan[2][i])
  if j and j.state == 'queued' and not call('ZSCORE', P .. 'outbox', j.id) then
    local t = j.seq .. '.' .. j.turn
    if not (call('ZSCORE', A.order, t) or call('LPOS', A.wait, t) or call('LPOS', A.active, t)) then
      void[#void + 1] = { j.seq, j.turn }
      call('HINCRBY', j.key, 'turn', 1)
      call('ZADD', P .. 'outbox', 0, j.id)
    end
  end
end
return { scan[1], void }`,
  },
} satisfies Record<string, Script>;
