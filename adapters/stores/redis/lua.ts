// What the scripts share: the check that this is the Redis we know, jobs in their indices, their places in the order, documents.

/**
 * Every script takes the same arguments: the key of the epoch; the prefix of all keys, the epoch this gateway knows, the
 * script's own arguments as JSON, and texts that are kept as they are. Texts never pass through Lua's JSON, which makes
 * `{}` of `[]` and rounds numbers. A Redis with another epoch, or none, has lost what we had there: nothing is done on it.
 */
const FRAME = `
local call = redis.call
local P = ARGV[1]
if call('GET', KEYS[1]) ~= ARGV[2] then return redis.error_reply('LOST the epoch is another one') end
local A = cjson.decode(ARGV[3])
local function text(n) return ARGV[3 + n] end
`;

/**
 * A job is `j:{id}`, small fields that Redis keeps in one compact piece, and `b:{id}`, the JSON of what was asked, what
 * came out and the notes. Indices: `os:{state}:{owner}` by number of arrival, `bi:`, `bs:` and `bc:` of a batch,
 * `counts`, `running`, `finished` by time, `deadlines` of all that wait, `outbox` of what has no ticket yet.
 */
const JOBS = `
local function load(id)
  local key = P .. 'j:' .. id
  local f = call('HMGET', key, 'state', 'owner', 'priority', 'batch', 'seq', 'turn', 'fence', 'attempts', 'since',
    'queueMs', 'totalMs', 'index', 'tag', 'runAt')
  if not f[1] then return nil end
  return { id = id, key = key, body = P .. 'b:' .. id, state = f[1], owner = f[2], class = f[3], batch = f[4],
    seq = f[5], turn = f[6], fence = f[7], attempts = tonumber(f[8]), since = tonumber(f[9]), queueMs = tonumber(f[10]),
    totalMs = tonumber(f[11]), index = f[12], tag = tonumber(f[13]), runAt = tonumber(f[14]) }
end

local function tell() call('XADD', P .. 'wake', 'MAXLEN', '~', 16, '*', 'w', '1') end

local function enter(j, state)
  j.state = state
  call('HSET', j.key, 'state', state)
  call('ZADD', P .. 'os:' .. state .. ':' .. j.owner, j.seq, j.id)
  call('HINCRBY', P .. 'counts', state, 1)
  if j.batch then
    call('ZADD', P .. 'bs:' .. state .. ':' .. j.batch, j.seq, j.id)
    call('HINCRBY', P .. 'bc:' .. j.batch, state, 1)
  end
end

local function leave(j)
  call('ZREM', P .. 'os:' .. j.state .. ':' .. j.owner, j.id)
  call('HINCRBY', P .. 'counts', j.state, -1)
  if j.batch then
    call('ZREM', P .. 'bs:' .. j.state .. ':' .. j.batch, j.id)
    call('HINCRBY', P .. 'bc:' .. j.batch, j.state, -1)
  end
  if j.state == 'queued' then
    call('ZREM', P .. 'outbox', j.id)
    call('ZREM', P .. 'deadlines', j.id)
    local tags = P .. 'tags:' .. j.class
    if call('HINCRBY', tags, 'n:' .. j.owner, -1) <= 0 then call('HDEL', tags, 'n:' .. j.owner, 't:' .. j.owner) end
    -- Nobody waits, so nobody is wronged when counting starts anew; the numbers must not run out.
    if call('HINCRBY', tags, 'n', -1) <= 0 and tonumber(call('HGET', tags, 'v') or 0) > LIMIT / 2 then call('DEL', tags) end
  elseif j.state == 'running' then
    call('SREM', P .. 'running', j.id)
  else
    call('ZREM', P .. 'finished', j.id)
  end
end

-- Waits from now on. What may start at once stands in the outbox with 0: it waits for no clock.
local function wait(j, runAt, ready)
  j.turn = tostring(tonumber(j.turn) + 1)
  j.runAt = tonumber(runAt)
  enter(j, 'queued')
  call('HSET', j.key, 'turn', j.turn, 'runAt', runAt)
  call('ZADD', P .. 'outbox', ready and 0 or j.runAt, j.id)
  local deadline = j.since + j.totalMs
  if j.attempts == 0 then deadline = math.min(deadline, j.runAt + j.queueMs) end
  call('ZADD', P .. 'deadlines', deadline, j.id)
  local tags = P .. 'tags:' .. j.class
  call('HINCRBY', tags, 'n', 1)
  call('HINCRBY', tags, 'n:' .. j.owner, 1)
end

local function start(j, worker, now)
  leave(j)
  enter(j, 'running')
  call('SADD', P .. 'running', j.id)
  j.fence = call('HINCRBY', j.key, 'fence', 1)
  j.attempts = call('HINCRBY', j.key, 'attempts', 1)
  call('HINCRBY', j.key, 'beat', 1)
  call('HSET', j.key, 'worker', worker, 'startedAt', now)
  local tags = P .. 'tags:' .. j.class
  if j.tag and j.tag > tonumber(call('HGET', tags, 'v') or 0) then call('HSET', tags, 'v', j.tag) end
end

local function note(j, n)
  if not n then return end
  call('HSET', j.body, 'notes', (call('HGET', j.body, 'notes') or '{}') .. '\\n' .. text(n))
end

local function close(j, o)
  leave(j)
  enter(j, o.state)
  call('HSET', j.key, 'finishedAt', o.at)
  call('HDEL', j.key, 'worker', 'cancelled')
  call('ZADD', P .. 'finished', o.at, j.id)
  if o.result then call('HSET', j.body, 'result', text(o.result)) end
  if o.error then call('HSET', j.body, 'error', text(o.error)) end
  note(j, o.notes)
end

local function erase(j)
  leave(j)
  if j.batch then
    call('ZREM', P .. 'bi:' .. j.batch, j.id)
    if call('EXISTS', P .. 'bi:' .. j.batch) == 0 then call('DEL', P .. 'bc:' .. j.batch) end
  end
  call('DEL', j.key, j.body)
end

local function head(id)
  return { id, call('HGETALL', P .. 'j:' .. id), call('HMGET', P .. 'b:' .. id, 'notes', 'error') }
end
local function record(id)
  return { id, call('HGETALL', P .. 'j:' .. id), call('HMGET', P .. 'b:' .. id, 'notes', 'error', 'input', 'result') }
end

-- Within a class the callers take turns: a caller's next job gets the tag after its last waiting one, but none lower
-- than the tag claimed last. A job that goes back keeps its tag and stands before the others that have it.
local function ticket(j)
  local given = call('HGET', j.key, 'ticket')
  if given and string.sub(given, 1, #j.turn + 1) == j.turn .. ':' then
    return { j.id, j.seq, j.turn, string.sub(given, #j.turn + 2) }
  end
  local tags = P .. 'tags:' .. j.class
  local v = tonumber(call('HGET', tags, 'v') or 0)
  local again = j.tag ~= nil
  if again then
    j.tag = math.min(j.tag, v + 1)
  else
    j.tag = math.min(LIMIT, math.max(v, tonumber(call('HGET', tags, 't:' .. j.owner) or 0)) + 1)
    call('HSET', tags, 't:' .. j.owner, j.tag)
  end
  local priority = string.format('%d', BASE[j.class] + 2 * j.tag - (again and 1 or 0))
  call('HSET', j.key, 'tag', j.tag, 'ticket', j.turn .. ':' .. priority)
  return { j.id, j.seq, j.turn, priority }
end
`;

/** `d:{kind}:{id}`; indices `dk:`, `do:`, `dr:` by number of arrival and `dd:` by due time. */
const DOCUMENTS = `
local function document(kind, id)
  return call('HGETALL', P .. 'd:' .. kind .. ':' .. id)
end

local function conflict(puts)
  for _, p in ipairs(puts) do
    if p['if'] then
      local version = call('HGET', P .. 'd:' .. p.kind .. ':' .. p.id, 'version')
      if p['if'] == 'absent' then
        if version then return document(p.kind, p.id) end
      elseif not version then return 'missing'
      elseif tonumber(version) ~= p['if'] then return document(p.kind, p.id) end
    end
  end
end

local function put(p)
  local key = P .. 'd:' .. p.kind .. ':' .. p.id
  local old = call('HMGET', key, 'owner', 'ref', 'seq')
  if p.delete then
    if not old[1] then return end
    call('DEL', key)
    call('ZREM', P .. 'dk:' .. p.kind, p.id)
    call('ZREM', P .. 'do:' .. p.kind .. ':' .. old[1], p.id)
    if old[2] then call('ZREM', P .. 'dr:' .. p.kind .. ':' .. old[2], p.id) end
    call('ZREM', P .. 'dd:' .. p.kind, p.id)
    return
  end
  local seq = old[3] or call('INCR', P .. 'seq')
  if not old[1] then
    call('HSET', key, 'kind', p.kind, 'id', p.id, 'seq', seq, 'createdAt', A.now)
    call('ZADD', P .. 'dk:' .. p.kind, seq, p.id)
  end
  -- One number for all changes: a document that is deleted and made again never has a version that it had before.
  call('HSET', key, 'owner', p.owner, 'version', call('INCR', P .. 'change'))
  if p.value then call('HSET', key, 'value', text(p.value)) else call('HDEL', key, 'value') end
  if old[1] ~= p.owner then
    if old[1] then call('ZREM', P .. 'do:' .. p.kind .. ':' .. old[1], p.id) end
    call('ZADD', P .. 'do:' .. p.kind .. ':' .. p.owner, seq, p.id)
  end
  if old[2] and old[2] ~= p.ref then
    call('ZREM', P .. 'dr:' .. p.kind .. ':' .. old[2], p.id)
    call('HDEL', key, 'ref')
  end
  if p.ref and old[2] ~= p.ref then
    call('HSET', key, 'ref', p.ref)
    call('ZADD', P .. 'dr:' .. p.kind .. ':' .. p.ref, seq, p.id)
  end
  if p.due then
    call('HSET', key, 'due', p.due)
    call('ZADD', P .. 'dd:' .. p.kind, p.due, p.id)
  else
    call('HDEL', key, 'due')
    call('ZREM', P .. 'dd:' .. p.kind, p.id)
  end
end
`;

/**
 * BullMQ's priorities end at 2^21, and three classes share them: the class decides, then the tag. A job that goes back
 * to wait takes the odd number before its tag's. Tags end at LIMIT; until a class has been empty once, it is then first
 * come, first served.
 */
const ORDER = `
local LIMIT = 349524
local BASE = { interactive = 0, normal = 699050, background = 1398100 }
`;

export interface Script {
  body: string;
  /**
   * What it does to memory. A `reading` script writes nothing; `growing` ones are refused as a whole where Redis is full;
   * the others end and clear what was accepted before, and must go on.
   */
  kind: 'reading' | 'growing' | 'going on';
}

const FLAGS = { reading: 'flags=no-writes', growing: '', 'going on': 'flags=allow-oom' };

/** `flags`: whether this Redis knows them, which is since 7.0; an older one may end such a script in its middle when it is full. */
export function toLua({ body, kind }: Script, flags: boolean): string {
  return `${flags ? `#!lua ${FLAGS[kind]}\n` : ''}${FRAME}${ORDER}${JOBS}${DOCUMENTS}${body}`;
}
