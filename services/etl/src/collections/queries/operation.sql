-- The calls of a day, by part: channel, hour, attempt, queue, and the accounts that they reached.
select part, name, calls, cd, ci, promises from mart_calls where dia = $1
