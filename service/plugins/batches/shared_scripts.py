"""Lua scripts of the shared store; the server runs each as one transaction.

All keys begin with KEYS[1], whose braces keep them on one node of a cluster:

- `file/ID`, `batch/ID`: hashes of a record's fields; `files/TENANT`, `batches/TENANT`,
  `unfinished/TENANT`, `unfinished`, `ended`: sorted sets of ids by their number from `seq`.
- `expiry`: sorted set of files' ids by time of expiry; `arrival/ID`, `arrivals`: the same for
  reservations of uploads; `held`: bytes of files, answers and reservations by tenant.
- `answers/ID`: answers of an unfinished batch by line; `lease/ID`: the token of its holder.

If the client gets no answer, it runs the script again, so a second run must change nothing.
"""

_COMMON = """
local root = KEYS[1]

local function number_of(kind, tenant, id)
    return redis.call("ZSCORE", root .. kind .. "/" .. tenant, id)
end

local function grow(tenant, bytes)
    redis.call("HINCRBY", root .. "held", tenant, bytes)
end

local function put(key, record)
    for name, value in pairs(record) do
        redis.call("HSET", key, name, value)
    end
end

local function put_file(file)
    local key = root .. "file/" .. file.id
    if redis.call("EXISTS", key) == 1 then return end
    put(key, file)
    redis.call("ZADD", root .. "files/" .. file.tenant, redis.call("INCR", root .. "seq"), file.id)
    redis.call("ZADD", root .. "expiry", file.expires_at, file.id)
    grow(file.tenant, file.bytes)
end

local function drop_file(id)
    local key = root .. "file/" .. id
    local tenant, bytes = unpack(redis.call("HMGET", key, "tenant", "bytes"))
    redis.call("DEL", key)
    redis.call("ZREM", root .. "expiry", id)
    redis.call("ZREM", root .. "files/" .. tenant, id)
    grow(tenant, 0 - bytes)
end

local function drop_arrival(id)
    local key = root .. "arrival/" .. id
    local tenant, bytes = unpack(redis.call("HMGET", key, "tenant", "bytes"))
    if not tenant then return end
    redis.call("DEL", key)
    redis.call("ZREM", root .. "arrivals", id)
    grow(tenant, 0 - bytes)
end

local function drop_expired(now)
    local expired = redis.call("ZRANGEBYSCORE", root .. "arrivals", "-inf", now)
    for _, id in ipairs(expired) do drop_arrival(id) end
end

local function held(tenant)
    local size = tonumber(redis.call("HGET", root .. "held", tenant) or 0)
    return redis.call("ZCARD", root .. "files/" .. tenant), size
end

local function drop_batch(id, tenant)
    redis.call("DEL", root .. "batch/" .. id)
    redis.call("ZREM", root .. "batches/" .. tenant, id)
    redis.call("ZREM", root .. "ended", id)
end

local function batch_of(id)
    return redis.call("HGETALL", root .. "batch/" .. id)
end

local function move(id, status, now)
    local times = "times." .. status
    redis.call("HSET", root .. "batch/" .. id, "status", status, times, now, "moved_at", now)
end

local function end_with(id, status, now)
    local tenant = redis.call("HGET", root .. "batch/" .. id, "tenant")
    move(id, status, now)
    redis.call("ZREM", root .. "unfinished", id)
    redis.call("ZREM", root .. "unfinished/" .. tenant, id)
    redis.call("ZADD", root .. "ended", number_of("batches", tenant, id), id)
end
"""

RESERVE = f"""{_COMMON}
local arrival, now = cjson.decode(ARGV[1]), ARGV[2]
local most, most_bytes, most_held = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
drop_expired(now)
drop_arrival(arrival.id)
local count, size = held(arrival.tenant)
if count < most then
    local left = math.min(most_bytes, most_held - size)
    arrival.bytes = math.max(0, math.min(tonumber(arrival.bytes), left))
    put(root .. "arrival/" .. arrival.id, arrival)
    redis.call("ZADD", root .. "arrivals", arrival.expires_at, arrival.id)
    grow(arrival.tenant, arrival.bytes)
end
return {{count, size}}
"""
"""Reserves bytes for a file; returns the tenant's number of files and bytes before that."""

CANCEL_RESERVATION = f"""{_COMMON}
drop_arrival(ARGV[1])
"""
"""Cancels the reservation for a file."""

ADD_FILE = f"""{_COMMON}
local file = cjson.decode(ARGV[1])
local most, most_bytes, most_held = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
drop_arrival(file.id)
local count, size = held(file.tenant)
local new = redis.call("EXISTS", root .. "file/" .. file.id) == 0
if new and (count >= most or tonumber(file.bytes) > math.min(most_bytes, most_held - size)) then
    return {{count, size}}
end
put_file(file)
return false
"""
"""Adds a file; if the limits forbid it, returns the tenant's number of files and bytes."""

DELETE_FILE = f"""{_COMMON}
local tenant, id = ARGV[1], ARGV[2]
if not number_of("files", tenant, id) then return false end
for _, batch in ipairs(redis.call("ZRANGE", root .. "unfinished/" .. tenant, 0, -1)) do
    if redis.call("HGET", root .. "batch/" .. batch, "input_file_id") == id then return batch end
end
drop_file(id)
return ""
"""
"""Deletes a file; returns nil if the tenant has no such file, or the batch that reads it."""

CREATE = f"""{_COMMON}
local batch = cjson.decode(ARGV[1])
local most_unfinished, most_ended = tonumber(ARGV[3]), tonumber(ARGV[4])
local most_files = tonumber(ARGV[5])
local key = root .. "batch/" .. batch.id
if redis.call("EXISTS", key) == 1 then return false end
local purpose = number_of("files", batch.tenant, batch.input_file_id)
    and redis.call("HGET", root .. "file/" .. batch.input_file_id, "purpose")
local all, unfinished = root .. "batches/" .. batch.tenant, root .. "unfinished/" .. batch.tenant
local running, count = redis.call("ZCARD", unfinished), held(batch.tenant)
if purpose ~= ARGV[2] or running >= most_unfinished or count >= most_files then
    return {{purpose, running, count}}
end
local beyond = redis.call("ZCARD", all) - running - most_ended
for _, id in ipairs(beyond > 0 and redis.call("ZRANGE", all, 0, beyond + running - 1) or {{}}) do
    if beyond > 0 and not redis.call("ZSCORE", unfinished, id) then
        drop_batch(id, batch.tenant)
        beyond = beyond - 1
    end
end
local number = redis.call("INCR", root .. "seq")
put(key, batch)
for _, list in ipairs({{all, unfinished, root .. "unfinished"}}) do
    redis.call("ZADD", list, number, batch.id)
end
return false
"""
"""Adds a batch, and removes the tenant's oldest ended batches beyond their limit.

If the batch is not allowed, returns the purpose of its file (nil if the tenant has no such file)
and the tenant's numbers of unfinished batches and of files.
"""

CANCEL = f"""{_COMMON}
local tenant, id, now = ARGV[1], ARGV[2], ARGV[3]
if not number_of("batches", tenant, id) then return {{}} end
local status = redis.call("HGET", root .. "batch/" .. id, "status")
if status == "validating" or status == "in_progress" then move(id, "cancelling", now) end
return batch_of(id)
"""
"""Asks a batch to end, if it has not; returns its fields."""

EXPIRE = f"""{_COMMON}
local now, oldest = ARGV[1], tonumber(ARGV[2])
drop_expired(now)
local running, used, old = redis.call("ZRANGE", root .. "unfinished", 0, -1), {{}}, {{}}
for _, id in ipairs(running) do
    used[redis.call("HGET", root .. "batch/" .. id, "input_file_id")] = true
end
for _, id in ipairs(redis.call("ZRANGEBYSCORE", root .. "expiry", "-inf", now)) do
    if not used[id] then
        drop_file(id)
        old[#old + 1] = id
    end
end
for _, id in ipairs(redis.call("ZRANGE", root .. "ended", 0, -1)) do
    local batch = root .. "batch/" .. id
    local tenant, created = unpack(redis.call("HMGET", batch, "tenant", "created_at"))
    if tonumber(created) > oldest then break end
    drop_batch(id, tenant)
end
local files = redis.call("ZRANGE", root .. "expiry", 0, -1)
return {{table.concat(old, " "), table.concat(files, " "), table.concat(running, " ")}}
"""
"""Deletes what is too old; returns the ids of deleted files, other files and unfinished batches.

Each list is one text, because redis-py takes long to parse many elements.
"""

TAKE = f"""{_COMMON}
local id, token, milliseconds = ARGV[1], ARGV[2], ARGV[3]
if not redis.call("ZSCORE", root .. "unfinished", id) then return 0 end
local key = root .. "lease/" .. id
if redis.call("SET", key, token, "NX", "PX", milliseconds) then return 1 end
return redis.call("GET", key) == token and 1 or 0
"""
"""Takes the lease of an unfinished batch, if nobody has it."""

_HELD = f"""{_COMMON}
local id, token = ARGV[1], ARGV[2]
if redis.call("GET", root .. "lease/" .. id) ~= token then return {{}} end
"""
"""Beginning of scripts that need the lease: ends with an empty answer for another token."""

END_IN = f"""{_HELD}
redis.call("PEXPIRE", root .. "lease/" .. id, ARGV[3])
return {{1}}
"""
"""Renews a lease, or releases it if the time is 0."""

MOVE = f"""{_HELD}
local now, before, after = ARGV[3], ARGV[4], ARGV[5]
local key = root .. "batch/" .. id
if ARGV[6] then redis.call("HSET", key, ARGV[6], ARGV[7]) end
if redis.call("HGET", key, "status") == before then
    if after == "failed" then end_with(id, after, now) else move(id, after, now) end
end
return batch_of(id)
"""
"""Sets a field, and moves the batch to a status if it has the status `before`.

Returns the batch's fields.
"""

RECORD = f"""{_HELD}
local key, size = root .. "batch/" .. id, 0
for place = 4, #ARGV, 3 do
    local line, outcome, body = ARGV[place], ARGV[place + 1], ARGV[place + 2]
    if redis.call("HSETNX", root .. "answers/" .. id, line, outcome .. ":" .. body) == 1 then
        redis.call("HINCRBY", key, outcome, 1)
        size = size + #body
    end
end
if size > 0 then
    redis.call("HINCRBY", key, "answer_bytes", size)
    redis.call("HSET", key, "moved_at", ARGV[3])
    grow(redis.call("HGET", key, "tenant"), size)
end
return batch_of(id)
"""
"""Keeps the first answer of each line, and counts it; returns the batch's fields."""

ANSWERED = """
return table.concat(redis.call("HKEYS", KEYS[1] .. "answers/" .. ARGV[1]), " ")
"""
"""Returns the numbers of answered lines as one text, which redis-py parses faster."""

ANSWERS = """
local found, size = {}, 0
for place = 3, #ARGV do
    local answer = redis.call("HGET", KEYS[1] .. "answers/" .. ARGV[1], ARGV[place])
    if not answer then return false end
    found[#found + 1] = answer
    size = size + #answer
    if size > tonumber(ARGV[2]) then break end
end
return found
"""
"""Returns the answers of these lines, up to a size in bytes; nil if a line has none."""

FINISH = f"""{_HELD}
local key, now, status = root .. "batch/" .. id, ARGV[3], ARGV[4]
for place, name in ipairs({{"output_file_id", "error_file_id"}}) do
    if ARGV[4 + place] ~= "" then
        local file = cjson.decode(ARGV[4 + place])
        put_file(file)
        redis.call("HSET", key, name, file.id)
    end
end
local tenant, size = unpack(redis.call("HMGET", key, "tenant", "answer_bytes"))
grow(tenant, 0 - size)
redis.call("HSET", key, "answer_bytes", 0)
redis.call("UNLINK", root .. "answers/" .. id)
end_with(id, status, now)
return batch_of(id)
"""
"""Ends a batch with its result files, and removes its answers; returns the batch's fields."""
