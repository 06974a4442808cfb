// The scripts that only look at jobs: none costs more because there are more of them.
import type { Script } from './lua.ts';

export const listScripts = {
  get: {
    kind: 'reading',
    body: `
if call('EXISTS', P .. 'j:' .. A.id) == 0 then return false end
return record(A.id)`,
  },
  /** One page out of one or more indices, the newest first, each read in pieces of the same size. */
  list: {
    kind: 'reading',
    body: `
local PIECE, MOST = 64, 2000
local rows = {}
for i, key in ipairs(A.indices) do rows[i] = { key = key, before = A.before, ids = {}, at = 1 } end
local function first(row)
  if row.at > #row.ids and not row.over then
    row.ids = call('ZREVRANGEBYSCORE', row.key, '(' .. row.before, '-inf', 'WITHSCORES', 'LIMIT', 0, PIECE)
    row.at = 1
    if #row.ids == 0 then row.over = true else row.before = row.ids[#row.ids] end
  end
  return row.ids[row.at], tonumber(row.ids[row.at + 1])
end
local found, last, seen = {}, nil, 0
while true do
  local best, id, score
  for _, row in ipairs(rows) do
    local member, n = first(row)
    if member and (not score or n > score) then best, id, score = row, member, n end
  end
  if not best then return { '', found } end
  -- A page that would take too long to fill ends here; the next one goes on from this place.
  if seen == MOST then return { last, found } end
  local f = call('HMGET', P .. 'j:' .. id, 'owner', 'capability')
  if f[1] == A.owner and (not A.capability or f[2] == A.capability) then
    if #found == A.limit then return { last, found } end
    found[#found + 1] = head(id)
  end
  last = best.ids[best.at + 1]
  best.at = best.at + 2
  seen = seen + 1
end`,
  },
  position: {
    kind: 'reading',
    body: `
local j = load(A.id)
if not j or j.state ~= 'queued' then return false end
local back = call('LLEN', A.wait)
local rank = call('ZRANK', A.order, j.seq .. '.' .. j.turn)
if not rank then
  rank = call('ZRANK', P .. 'outbox', j.id)
  if not rank then return 1 end
  rank = rank + call('ZCARD', A.order)
end
return back + rank + 1`,
  },
  counts: { kind: 'reading', body: `return call('HGETALL', P .. A.key)` },
  waiting: { kind: 'reading', body: `return call('ZCARD', P .. 'os:queued:' .. A.owner)` },
  batchJobs: {
    kind: 'reading',
    body: `
local records = {}
for i, id in ipairs(call('ZRANGEBYSCORE', P .. 'bi:' .. A.batch, A.index, '+inf', 'LIMIT', 0, A.limit)) do
  records[i] = record(id)
end
return records`,
  },
  running: {
    kind: 'reading',
    body: `
local heads = {}
for i, id in ipairs(call('SMEMBERS', P .. 'running')) do heads[i] = head(id) end
return heads`,
  },
  overdue: {
    kind: 'reading',
    body: `
local heads = {}
for i, id in ipairs(call('ZRANGEBYSCORE', P .. 'deadlines', '-inf', A.now, 'LIMIT', 0, A.limit)) do heads[i] = head(id) end
return heads`,
  },
  /** When something may start or is overdue: the first of the outbox, of the deadlines and of the order. */
  nextAt: {
    kind: 'reading',
    body: `
local times = {}
local function starts(id)
  local at = id and call('HGET', P .. 'j:' .. id, 'runAt')
  if at then times[#times + 1] = at end
end
starts(call('ZRANGE', P .. 'outbox', 0, 0)[1])
for _, t in ipairs({ call('ZRANGE', A.order, 0, 0)[1] or '', call('LINDEX', A.wait, -1) or '' }) do
  starts(call('HGET', A.ticket .. t, 'name'))
end
local late = call('ZRANGE', P .. 'deadlines', 0, 0, 'WITHSCORES')
if late[2] and late[2] ~= 'inf' then times[#times + 1] = late[2] end
return times`,
  },
  /** For each id: its state, `gone` where somebody deleted it, nothing where it is not known. */
  states: {
    kind: 'reading',
    body: `
local known = {}
for i, id in ipairs(A.ids) do
  known[i] = call('HGET', P .. 'j:' .. id, 'state') or (call('EXISTS', P .. 'gone:' .. id) == 1 and 'gone') or ''
end
return known`,
  },
  /** Whether there is something to claim that nobody may have been told of. */
  probe: {
    kind: 'reading',
    body: `
local early = call('ZRANGE', P .. 'outbox', 0, 0, 'WITHSCORES')
if early[2] and tonumber(early[2]) <= A.now then return 1 end
return call('LLEN', A.wait) > 0 and 1 or 0`,
  },
} satisfies Record<string, Script>;
