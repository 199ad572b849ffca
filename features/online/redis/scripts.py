"""The steps that Redis takes as one: each script runs whole, and nothing else beside it."""

from __future__ import annotations

MARK = b"p"
"""The field of a piece that every piece has: a tail's number of cells, or a head's position."""

CELL = b"c"
"""What stands before an entity's key in the name of its field."""

STALE = -1
"""The view's versions are not what they were taken for: look again."""

LOST = -2
"""Redis has less than it was given: it lost memory, or went back to an older state."""

CHANGE = """
-- KEYS: the view's versions, the piece that is new, then the pieces to remove.
-- ARGV: the versions as they were and as they will be, what is new, the new piece's mark.
if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then return -1 end
if ARGV[3] == 'tail' then
    if redis.call('HGET', KEYS[2], 'p') ~= ARGV[4] then return -2 end
    redis.call('PERSIST', KEYS[2])
elseif ARGV[3] == 'head' then
    redis.call('HSET', KEYS[2], 'p', ARGV[4], 'o', '0')
end
redis.call('SET', KEYS[1], ARGV[2])
for i = 3, #KEYS do redis.call('UNLINK', KEYS[i]) end
return 1
"""
"""Replaces a view's versions if they are still what they were, with the pieces that change."""

COUNT = """
-- KEYS: a tail that is being written. ARGV: its least number of cells, then its checked mark.
local cells = redis.call('HLEN', KEYS[1]) - 1
if redis.call('HGET', KEYS[1], 'p') ~= '' or cells < tonumber(ARGV[1]) then return -2 end
redis.call('HSET', KEYS[1], 'p', tostring(cells))
return cells
"""
"""Counts the cells of a tail and marks it as whole."""

WRITE_HEAD = """
-- KEYS: the view's versions, the head. ARGV: the versions as they were, the offset, the least
-- offset that the head must have, the position, then fields and cells in turn.
if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then return -1 end
local kept = tonumber(redis.call('HGET', KEYS[2], 'o') or '-1')
if kept < tonumber(ARGV[3]) then return -2 end
if tonumber(ARGV[2]) < kept then return 0 end
redis.call('HSET', KEYS[2], 'o', ARGV[2], 'p', ARGV[4])
for i = 5, #ARGV, 2 do redis.call('HSET', KEYS[2], ARGV[i], ARGV[i + 1]) end
return 1
"""
"""Writes cells and position of a head, unless the head has come further."""

ERASE = """
-- KEYS: the view's versions, the mark of an erasure, the view's tails, its heads. ARGV: the
-- versions as they were and as they will be, the number of tails, the mark of each, then the fields
-- to remove.
if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then return 0 end
local tails = tonumber(ARGV[3])
redis.call('SET', KEYS[2], '1')
for i = 3, #KEYS do
    for j = 4 + tails, #ARGV do redis.call('HDEL', KEYS[i], ARGV[j]) end
end
for i = 1, tails do redis.call('HSET', KEYS[2 + i], 'p', ARGV[3 + i]) end
redis.call('SET', KEYS[1], ARGV[2])
return 1
"""
"""Takes cells out of all pieces of a view, which then counts fewer of them."""

DISCARD = """
-- KEYS: a tail, the mark of an erasure. A tail that is not named yet has an end to its life.
if redis.call('TTL', KEYS[1]) < 0 then return 0 end
redis.call('SET', KEYS[2], '1')
redis.call('UNLINK', KEYS[1])
return 1
"""
"""Removes a tail that was never finished, and says that an erasure has something to forget."""
