"""Lua scripts of the store that replicas share; the server runs each as one transaction.

All keys begin with KEYS[1], whose braces keep them on one node of a cluster. NAME is an adapter's:

- `changes`: list of the log's lines; `head`, `writer`: digest and replica of the last one.
- `stage/NAME`: the number of the line that began the running stage; of this stage alone are
  `counts/NAME`, a hash of sums by `GROUP/PLACE/TEST`; `tenants/NAME`, a hash of tenants by their
  order; and `notes/NAME`, a hash of its `revision`, of what the golden examples found, and of what
  its judge found. `users/NAME`: set of the tenants that asked for the name.
- `judge/NAME`: the replica that judges, until its lease expires. `sent/REPLICA`: the number of the
  last counts that a replica sent.
- `rated/TENANT`: sorted set of rated answers by their time; `rated`: their numbers by tenant;
  `floors`: the time of the last answer of a tenant that was forgotten; `rating/TOKEN`: a rating
  that was counted a moment ago. `tally/VERSION`: hash of sums; `levels`: hash of conformal levels;
  `tallied`, `leveled`: sorted sets of their names by age; `moves`: time of a level's last change.
- `key`: encrypts ids of answers.

If the client gets no answer, it runs the script again, so a second run must change nothing.
"""

_NOW = """
local function now() return table.concat(redis.call("TIME"), ".") end
"""
"""The server's time: a counter in its place would come to the same number again after a crash."""

SYNC = f"""{_NOW}
local root, replica, sequence = KEYS[1], ARGV[1], tonumber(ARGV[2])
local message, groups = cjson.decode(ARGV[6]), tonumber(ARGV[7])

local function runs(each)
    return redis.call("GET", root .. "stage/" .. each.name) == each.since
end

local function revise(name)
    redis.call("HSET", root .. "notes/" .. name, "revision", now())
end

local function group_of(name, own)
    if own.trusted then return -1 end
    local key = root .. "tenants/" .. name
    redis.call("HSETNX", key, own.tenant, redis.call("HLEN", key))
    return redis.call("HGET", key, own.tenant) % groups
end

local function add(each)
    for _, own in ipairs(each.tenants) do
        local group = group_of(each.name, own)
        for test, numbers in pairs(own.tests) do
            for place, number in ipairs(numbers) do
                local field = group .. "/" .. (place - 1) .. "/" .. test
                if tonumber(number) ~= 0 then
                    redis.call("HINCRBYFLOAT", root .. "counts/" .. each.name, field, number)
                end
            end
        end
    end
    revise(each.name)
end

local function note(each, field, value)
    if value == redis.call("HGET", root .. "notes/" .. each.name, field) then return end
    redis.call("HSET", root .. "notes/" .. each.name, field, value)
    revise(each.name)
end

local function take_lease(name)
    local key = root .. "judge/" .. name
    redis.call("SET", key, replica, "NX", "PX", ARGV[4])
    if redis.call("GET", key) ~= replica then return false end
    redis.call("PEXPIRE", key, ARGV[4])
    return true
end

local function exchange(each)
    local name, notes = each.name, root .. "notes/" .. each.name
    for _, user in ipairs(each.users) do
        if redis.call("SADD", root .. "users/" .. name, user) == 1 then revise(name) end
    end
    if each.golden and (each.failed or redis.call("HEXISTS", notes, "golden") == 0) then
        note(each, "golden", each.golden)
    end
    local found = {{name = name, judges = take_lease(name)}}
    if found.judges and each.found then note(each, "found", each.found) end
    local revision = redis.call("HGET", notes, "revision") or "0"
    if revision ~= each.revision then
        found.revision = revision
        found.golden = redis.call("HGET", notes, "golden")
        found.found = redis.call("HGET", notes, "found")
        found.tenants = redis.call("HGETALL", root .. "tenants/" .. name)
        found.users = redis.call("SMEMBERS", root .. "users/" .. name)
        found.counts = redis.call("HGETALL", root .. "counts/" .. name)
    end
    return found
end

local whole = redis.call("LLEN", root .. "changes") >= tonumber(ARGV[3])
if whole and tonumber(redis.call("GET", root .. "sent/" .. replica) or 0) < sequence then
    for _, each in ipairs(message.counts) do
        if runs(each) then add(each) end
    end
    redis.call("SET", root .. "sent/" .. replica, sequence, "PX", ARGV[5])
end
local stages = {{}}
for _, each in ipairs(message.stages) do
    if whole and runs(each) then stages[#stages + 1] = exchange(each) end
end
redis.call("SETNX", root .. "key", ARGV[8])
local moves, levels = redis.call("GET", root .. "moves") or "0", false
if moves ~= ARGV[9] then levels = redis.call("HGETALL", root .. "levels") end
return cjson.encode({{
    number = redis.call("LLEN", root .. "changes"),
    head = redis.call("GET", root .. "head"),
    lines = redis.call("LRANGE", root .. "changes", ARGV[3], -1),
    whole = whole,
    stages = stages,
    key = redis.call("GET", root .. "key"),
    moves = moves,
    levels = levels,
}})
"""
"""Adds a replica's counts once, renews or takes leases, and returns what the replica lacks.

Does neither while the log is not `whole`, because it has lost lines that the replica knows.
"""

_WRITE = """
local root, number, before = KEYS[1], tonumber(ARGV[1]), ARGV[2]
local changes, head = root .. "changes", root .. "head"

local function follows()
    return redis.call("LLEN", changes) == number and (redis.call("GET", head) or "") == before
end

local function begin(name, since)
    for _, kind in ipairs({"counts/", "tenants/", "notes/"}) do
        redis.call("DEL", root .. kind .. name)
    end
    if since == "" then
        redis.call("DEL", root .. "stage/" .. name)
    else
        redis.call("SET", root .. "stage/" .. name, since)
    end
end
"""

APPEND = f"""{_WRITE}
local line, name, replica = ARGV[3], ARGV[5], ARGV[7]
local again = redis.call("GET", root .. "writer") == replica
if again and redis.call("LINDEX", changes, number) == line then return "written" end
if not follows() then return "outrun" end
local judge = redis.call("GET", root .. "judge/" .. name)
if ARGV[8] == "judged" and judge ~= replica then return "lost" end
redis.call("RPUSH", changes, line)
redis.call("SET", root .. "writer", replica)
redis.call("SET", head, ARGV[4])
begin(name, ARGV[6])
return "written"
"""
"""Appends a line after `number` others, if these are all and a verdict's replica has the lease."""

RESTORE = f"""{_WRITE}
if not follows() then return 0 end
for _, line in ipairs(cjson.decode(ARGV[3])) do redis.call("RPUSH", changes, line) end
redis.call("SET", head, ARGV[4])
for name, since in pairs(cjson.decode(ARGV[5])) do
    if redis.call("GET", root .. "stage/" .. name) ~= since then begin(name, since) end
end
return 1
"""
"""Appends lines that the server has lost, after the last one that it still has."""

RELEASE = """
for place = 2, #ARGV do
    local key = KEYS[1] .. "judge/" .. ARGV[place]
    if redis.call("GET", key) == ARGV[1] then redis.call("DEL", key) end
end
"""
"""Gives up a replica's leases."""

RATE = f"""{_NOW}
local root, rated, token = KEYS[1], cjson.decode(ARGV[1]), ARGV[2]
local most, most_versions = tonumber(ARGV[3]), tonumber(ARGV[4])
local own, tally = root .. "rated/" .. rated.tenant, root .. "tally/" .. rated.version

local function make_room(list, name, drop)
    local key = root .. list
    if redis.call("ZSCORE", key, name) then return end
    redis.call("ZADD", key, redis.call("INCR", root .. "seq"), name)
    if redis.call("ZCARD", key) > most_versions then drop(redis.call("ZPOPMIN", key)[1]) end
end

local function remember()
    if redis.call("ZSCORE", own, rated.answer) then return "rated" end
    local floor = redis.call("HGET", root .. "floors", rated.tenant)
    if floor and rated.time <= tonumber(floor) then return "forgotten" end
    redis.call("ZADD", own, rated.time, rated.answer)
    redis.call("ZREMRANGEBYSCORE", own, "-inf", "(" .. rated.oldest)
    redis.call("HSET", root .. "rated", rated.tenant, redis.call("ZCARD", own))
    local all, largest, size = 0, rated.tenant, 0
    local numbers = redis.call("HGETALL", root .. "rated")
    for place = 1, #numbers, 2 do
        local number = tonumber(numbers[place + 1])
        all = all + number
        if number > size then largest, size = numbers[place], number end
    end
    if all > most then
        local gone = redis.call("ZPOPMIN", root .. "rated/" .. largest)
        redis.call("HINCRBY", root .. "rated", largest, -1)
        redis.call("HSET", root .. "floors", largest, gone[2])
    end
end

local function move(by)
    make_room("leveled", by.name, function(old) redis.call("HDEL", root .. "levels", old) end)
    local level = tonumber(redis.call("HGET", root .. "levels", by.name) or by.promised)
    local pull = by.pull * (by.told - math.max(0, level))
    level = level + by.step * (by.promised - by.missed + pull)
    level = math.min(math.max(level, 0 - by.step), by.most)
    redis.call("HSET", root .. "levels", by.name, string.format("%.9f", level))
    redis.call("SET", root .. "moves", now())
end

if redis.call("EXISTS", root .. "rating/" .. token) == 0 then
    local refused = remember()
    if refused then return {{refused}} end
    redis.call("SET", root .. "rating/" .. token, 1, "PX", ARGV[5])
    local function forget(old) redis.call("DEL", root .. "tally/" .. old) end
    make_room("tallied", rated.version, forget)
    for field, number in pairs(rated.sums) do redis.call("HINCRBYFLOAT", tally, field, number) end
    if rated.level then move(rated.level) end
end
return {{"", redis.call("HGETALL", tally)}}
"""
"""Counts a rating once; returns why it is refused, or nothing and the sums of its version."""
