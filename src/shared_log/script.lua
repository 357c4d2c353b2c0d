-- All that servers do to the shared log. Each call is one atomic step.
--
-- KEYS: meta     epoch, begin (position of its first entry), top (position of the last entry), users (number of the newest `user7`), bytes, version, and when
--                a server last called
--       log      stream: entry n has the id n-0; s: server, b: batch, o: packed changes
--       srv      server -> when its lease ends, in milliseconds of Redis' clock
--       seq      server -> "run batch position time": its last `enter`, its last batch, and where that is in the log
--       pos      server -> its floor
--       members  server:member -> announced (1 or 0), name, forms, one a line
--       names    form -> server:member
-- ARGV: call, version of the data, server, run, and what is described at each call below
--
-- The first write of each call is an HSET that extends the lease. It is refused where a write can be refused (OOM,
-- READONLY, MISCONF), so a call is done as a whole or not at all. Only where the data turns out not to be what this script
-- wrote, all of it is deleted (see `begin_anew`).

local META, LOG, SERVERS, SEQ, POS, MEMBERS, NAMES = unpack(KEYS)
local call, version, me, run = unpack(ARGV, 1, 4)
local LEASE, SILENCE, MEMORY_OF_BATCHES = 10000, 3000, 3600000
local MAX_ENTRIES, MAX_BYTES, ENTRY_COST = 16384, 64 * 1024 * 1024, 64
local TRIMMED_ENTRIES, TRIMMED_BYTES = 64, 256 * 1024
-- The largest number that is exact here.
local MAX_NUMBER = 2 ^ 53
local MALFORMED = 'the data is malformed'
-- How much is told of what was said before a server entered.
local EARLIER_ENTRIES, EARLIER_BYTES = 64, 64 * 1024
local SERVER = '^' .. string.rep('%x', 32) .. '$'

-- Redis 6 replicates what a script wrote, not the script, only if it is told to: this one reads the clock.
if redis.replicate_commands then redis.replicate_commands() end

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local found_version, epoch, begin, top, users, bytes, called
-- The servers whose leases have not ended.
local live = {}

local function number(value)
  return string.format('%d', value)
end

-- A number that this script wrote; 0 where it wrote none.
local function parse(text)
  if not text then return 0 end
  local value = tonumber(text)
  if not value or value < 0 or value > MAX_NUMBER then error({err = MALFORMED}) end
  return value
end

local function load()
  local meta = redis.call('HMGET', META, 'version', 'epoch', 'top', 'users', 'bytes', 'called', 'begin')
  found_version, epoch = meta[1], meta[2]
  top, users, bytes, called = parse(meta[3]), parse(meta[4]), parse(meta[5]), parse(meta[6])
  begin = parse(meta[7])
end

local function short(text)
  return string.char(#text) .. text
end

local function save()
  redis.call('HSET', META, 'epoch', epoch, 'begin', number(begin), 'top', number(top), 'users', number(users), 'bytes', number(bytes),
    'version', version, 'called', number(now))
end

-- Removes the oldest entries while there are too many. Some more than that go at a time, because it takes reading them
-- to know their length. `newest` is the length of the newest entry.
local function trim(newest)
  local length = redis.call('XLEN', LOG)
  -- Somebody else may have shortened the stream: the newest entry always stays.
  if length <= 1 then bytes = newest end
  while length > 1 and (length > MAX_ENTRIES or bytes > MAX_BYTES) do
    local fitting = math.floor(TRIMMED_BYTES * length / math.max(bytes, 1))
    local count = math.max(1, math.min(TRIMMED_ENTRIES, length - 1, fitting))
    local oldest = redis.call('XRANGE', LOG, '-', '+', 'COUNT', number(count))
    for _, entry in ipairs(oldest) do
      bytes = bytes - #entry[2][6] - ENTRY_COST
    end
    redis.call('XTRIM', LOG, 'MINID', '=', number(top - length + #oldest + 1) .. '-0')
    length = length - #oldest
  end
end

local function append(server, batch, changes)
  top = top + 1
  redis.call('XADD', LOG, number(top) .. '-0', 's', server, 'b', batch, 'o', changes)
  bytes = bytes + #changes + ENTRY_COST
  trim(#changes + ENTRY_COST)
end

-- Members: a record, and its name in `names` under each of its forms.

local function record(id)
  local value = redis.call('HGET', MEMBERS, id)
  if not value then return nil end
  local fields = {}
  for field in string.gmatch(value, '[^\n]+') do fields[#fields + 1] = field end
  return {announced = fields[1], name = fields[2], forms = {fields[3], fields[4]}}
end

local function release(id, member)
  for _, form in ipairs(member.forms) do
    if redis.call('HGET', NAMES, form) == id then redis.call('HDEL', NAMES, form) end
  end
end

local function store(id, announced, name, forms)
  redis.call('HSET', MEMBERS, id, table.concat({announced, name, unpack(forms)}, '\n'))
  for _, form in ipairs(forms) do redis.call('HSET', NAMES, form, id) end
end

-- Whether none of the forms belongs to another member than `id`.
local function are_free(forms, id)
  for _, form in ipairs(forms) do
    local holder = redis.call('HGET', NAMES, form)
    if holder and holder ~= id then return false end
  end
  return true
end

local function new_name()
  repeat users = users + 1 until redis.call('HEXISTS', NAMES, 'user' .. number(users)) == 0
  return 'user' .. number(users)
end

local function forget_members(server)
  for _, id in ipairs(redis.call('HKEYS', MEMBERS)) do
    if string.sub(id, 1, #server) == server then
      release(id, record(id))
      redis.call('HDEL', MEMBERS, id)
    end
  end
end

-- `lost` is 1 for a server whose lease ended, and 0 for one that said goodbye.
local function remove_server(server, lost)
  forget_members(server)
  redis.call('HDEL', SERVERS, server)
  redis.call('HDEL', POS, server)
  append(server, 'g', 'g' .. short(server) .. lost)
end

-- Extends the lease of this server, which is the first write of a call, and removes servers whose lease ended. If nobody
-- has called for a while, it was Redis that could not be reached, and every server gets a new lease. A lease that ends too
-- late was given by a clock that has been set back since, or by that of another machine.
local function extend_lease()
  redis.call('HSET', SERVERS, me, number(now + LEASE))
  local servers = redis.call('HGETALL', SERVERS)
  for at = 1, #servers, 2 do
    local server, ends = servers[at], tonumber(servers[at + 1])
    if not ends or not string.find(server, SERVER) then
      redis.call('HDEL', SERVERS, server)
    elseif ends > now + LEASE or called + SILENCE < now then
      redis.call('HSET', SERVERS, server, number(now + LEASE))
      live[server] = true
    elseif ends < now then
      remove_server(server, '1')
    else
      live[server] = true
    end
  end
end

-- The lowest floor of the other servers, or nothing if there is none.
local function lowest_floor()
  local floors, lowest = redis.call('HGETALL', POS), nil
  for at = 1, #floors, 2 do
    local server, floor = floors[at], parse(floors[at + 1])
    if server ~= me and live[server] and (not lowest or floor < lowest) then lowest = floor end
  end
  return lowest and number(lowest) or ''
end

local function sequence()
  local stored = redis.call('HGET', SEQ, me)
  if not stored then return nil end
  local last_run, batch, position = string.match(stored, '^(%d+) (%d+) (%d+) ')
  if not last_run then error({err = MALFORMED}) end
  return {run = parse(last_run), batch = parse(batch), position = position}
end

local function remember(batch, position)
  redis.call('HSET', SEQ, me, table.concat({run, number(batch), position, number(now)}, ' '))
end

-- A server may come back long after its lease ended, and has to learn then whether its last batch was applied.
local function forget_old_sequences()
  local stored = redis.call('HGETALL', SEQ)
  for at = 1, #stored, 2 do
    local written = parse(string.match(stored[at + 1], '(%d+)$'))
    if written + MEMORY_OF_BATCHES < now and redis.call('HEXISTS', SERVERS, stored[at]) == 0 then
      redis.call('HDEL', SEQ, stored[at])
    end
  end
end

-- The names of this server's members, as far as they are free; the others get new ones. Returns the packed change.
local function name_members(from)
  local count, named = 0, {}
  for at = from, #ARGV, 5 do
    local member, announced, name, forms = ARGV[at], ARGV[at + 1], ARGV[at + 2], {ARGV[at + 3], ARGV[at + 4]}
    local id = me .. ':' .. member
    local given = tonumber(string.match(name, '^user(%d+)$'))
    if given and given > users and given < 1e12 then users = given end
    if not are_free(forms, id) then
      name = new_name()
      forms = {name}
    end
    store(id, announced, name, forms)
    count = count + 1
    named[count] = short(member) .. short(name) .. announced
  end
  return 'e' .. short(me) .. short(number(count)) .. table.concat(named)
end

-- The number with which an epoch begins.
local function generation(name)
  return tonumber(string.match(name or '', '^%d+') or 0)
end

-- Whether the history of the log is to be called another one, so that all servers learn of a loss: this one has found
-- one, there is no data, or a history was put back that came before the one that this server knows, or beside it.
local function has_lost(believed, is_lost)
  if not epoch or generation(believed) > generation(epoch) then return true end
  if believed == epoch then return is_lost == '1' end
  return generation(believed) == generation(epoch)
end

-- The last entries from a position on that are not too long together, but at least one.
local function earlier_entries(from)
  local found, size, before = {}, 0, '+'
  while #found < 3 * EARLIER_ENTRIES do
    local entry = redis.call('XREVRANGE', LOG, before, number(from) .. '-0', 'COUNT', '1')[1]
    if not entry then break end
    local changes = entry[2][6] or ''
    size = size + #changes
    if #found > 0 and size > EARLIER_BYTES then break end
    found[#found + 1], found[#found + 2], found[#found + 3] = entry[2][2], entry[2][4] or '', changes
    before = '(' .. entry[1]
  end
  return found
end

-- enter: believed epoch, whether data was lost in it (1 or 0), a random text for a new epoch, last batch that the log is known to have had, floor, and
-- for each member number, announced, name and both forms. A run is a number that grows with each call, so that a late
-- copy of an earlier call does nothing.
-- Returns epoch, top, the last batch that was applied, the floor of the others, all members, and the last entries from the
-- newest to the oldest, each as server, batch and changes: for a server that is new, and for one that did not know of this
-- epoch those that belong to it.
local function enter()
  local believed, is_lost, random, answered, floor = unpack(ARGV, 5, 9)
  answered = tonumber(answered)
  local last = epoch and sequence()
  if last and tonumber(run) <= last.run then return {'stale'} end
  local is_new, begins = not epoch, has_lost(believed, is_lost)
  if begins then
    epoch = number(math.max(generation(believed), generation(epoch)) + 1) .. '-' .. random
  end
  redis.call('HSET', META, 'epoch', epoch, 'version', version)
  if is_new then
    redis.call('DEL', LOG, SERVERS, SEQ, POS, MEMBERS, NAMES)
    top, users, bytes, last = 0, 0, 0, nil
  end
  if begins then begin = top + 1 end
  local earlier = {}
  if believed == '' then
    earlier = earlier_entries(0)
  elseif believed ~= epoch and begin > 0 then
    earlier = earlier_entries(begin)
  end
  extend_lease()
  forget_members(me)
  append(me, 'e' .. run, name_members(10))
  redis.call('HSET', POS, me, floor ~= '' and floor or number(top + 1))
  -- It can have sent no more than one batch after the last that it knows of.
  local applied = last and last.batch <= answered + 1 and last.batch or 0
  remember(math.max(applied, answered), number(top))
  forget_old_sequences()
  save()
  return {'entered', epoch, number(top), number(applied), lowest_floor(), redis.call('HGETALL', MEMBERS),
    earlier}
end

-- What becomes of the operations of a batch: `J member`, `A member`, `N member name form form`, `L member change`,
-- and `R changes`, which are appended as they are.
local function evaluate(from)
  local changes, at = {}, from
  local function add(...)
    changes[#changes + 1] = table.concat({...})
  end
  while at <= #ARGV do
    local kind, member = ARGV[at], ARGV[at + 1]
    local id = me .. ':' .. member
    if kind == 'R' then
      add(member)
      at = at + 2
    elseif kind == 'J' then
      -- A batch is applied once, but after a loss of data its member may be back already.
      local known = record(id)
      local name = known and known.name or new_name()
      if not known then store(id, '0', name, {name}) end
      add('j', short(member), short(name))
      at = at + 2
    elseif kind == 'A' then
      local known = record(id)
      if known then
        store(id, '1', known.name, known.forms)
        add('a', short(member))
      end
      at = at + 2
    elseif kind == 'N' then
      local known, name, forms = record(id), ARGV[at + 2], {ARGV[at + 3], ARGV[at + 4]}
      if known and are_free(forms, id) then
        release(id, known)
        store(id, '1', name, forms)
        add('n', short(member), short(name))
      elseif known then
        add('t', short(member), short(name))
      end
      at = at + 5
    else
      local known = record(id)
      if known then
        release(id, known)
        redis.call('HDEL', MEMBERS, id)
        if known.announced == '0' and known.name == 'user' .. number(users) then users = users - 1 end
        add(ARGV[at + 2])
      end
      at = at + 3
    end
  end
  return table.concat(changes)
end

-- apply: epoch, batch, floor, operations. Batch 0 has none: it is a sign of life.
-- Returns top, the position of the batch, and the floor of the others; or why the server has to enter again.
local function apply()
  local believed, batch, floor = ARGV[5], tonumber(ARGV[6]), ARGV[7]
  if not epoch or believed ~= epoch then return {'epoch'} end
  local last = sequence()
  if not last or redis.call('HEXISTS', SERVERS, me) == 0 then return {'unknown', number(top)} end
  if last.run ~= tonumber(run) then return {'stale'} end
  if batch > last.batch + 1 then return {'gap'} end
  if batch ~= 0 and batch < last.batch then return {'stale'} end
  extend_lease()
  redis.call('HSET', POS, me, floor)
  local position = last.position
  if batch == last.batch + 1 then
    append(me, number(batch), evaluate(8))
    position = number(top)
    remember(batch, position)
  end
  save()
  return {'ok', number(top), position, lowest_floor()}
end

-- bye: the members of this server leave.
local function bye()
  local last = epoch and sequence()
  if last and last.run == tonumber(run) and redis.call('HEXISTS', SERVERS, me) == 1 then
    remove_server(me, '0')
    save()
  end
  return {'bye'}
end

-- Somebody else has written to the data, or another version of this script: the room begins anew, as after a loss.
local function begin_anew()
  redis.call('DEL', unpack(KEYS))
  return {'malformed'}
end

-- Whether an error says that the data is not what this script wrote: and not that Redis refuses a command.
local function is_malformed(text)
  local signs = {MALFORMED, 'WRONGTYPE', 'specified in XADD', 'stream has exhausted', ':%d+: attempt to ', ':%d+: bad argument'}
  for _, sign in ipairs(signs) do
    if string.find(text, sign) then return true end
  end
  return false
end

local function run_call()
  load()
  if epoch and found_version ~= version then return {'version', found_version or ''} end
  if call == 'enter' then return enter() end
  if call == 'apply' then return apply() end
  return bye()
end

local is_done, reply = pcall(run_call)
if is_done then return reply end
local text = type(reply) == 'table' and reply.err or tostring(reply)
if is_malformed(text) then return begin_anew() end
return {err = text}
