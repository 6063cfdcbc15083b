-- Views for people with an SQL shell.  They are computed from the log each time and hold nothing of their own.
-- Times are RFC 3339 in UTC (`*_at`), lengths of time are in seconds (`*_s`), `position` is that of the last event that counted.
-- In a query with one max(), SQLite takes the other columns from the row that holds it: so the latest event of a thing is found.

-- Every event, with the names of what it is about.
CREATE VIEW log AS
SELECT
    position,
    strftime('%Y-%m-%dT%H:%M:%S', recorded_at / 1000000, 'unixepoch') || printf('.%06dZ', recorded_at % 1000000) AS at,
    (SELECT name FROM streams WHERE streams.id = events.stream) AS stream,
    type,
    json_extract(data, '$.job') AS job,
    json_extract(data, '$.task') AS task,
    json_extract(data, '$.node') AS node,
    json_extract(data, '$.execution') AS execution,
    data,
    version,
    causation,
    correlation,
    actor,
    recorded_at,
    lower(hex(hash)) AS hash
FROM events;

-- Every job by its id; one that was deleted and created again is shown in its latest life.
CREATE VIEW jobs AS
WITH
    born AS (SELECT job, max(position) AS position, at, data FROM log WHERE type = 'job.created' GROUP BY job),
    moved AS (
        SELECT
            job,
            max(position) AS position,
            CASE type
                WHEN 'job.created' THEN 'active'
                WHEN 'job.enabled' THEN 'active'
                ELSE substr(type, 5)
            END AS state
        FROM log
        WHERE type IN (
            'job.created', 'job.disabling', 'job.disabled', 'job.enabling', 'job.enabled',
            'job.terminating', 'job.completed', 'job.deleting', 'job.deleted'
        )
        GROUP BY job
    ),
    ending AS (SELECT job, max(position) AS position, json_extract(data, '$.reason') AS reason FROM log WHERE type = 'job.terminating' GROUP BY job),
    ended AS (SELECT job, max(position) AS position, at FROM log WHERE type = 'job.completed' GROUP BY job)
SELECT
    born.job,
    moved.state,
    json_extract(born.data, '$.spec.pool_info.pool_id') AS pool,
    json_extract(born.data, '$.spec.priority') AS priority,
    born.at AS created_at,
    ended.at AS ended_at,
    ending.reason AS terminate_reason,
    moved.position
FROM born
JOIN moved ON moved.job = born.job
LEFT JOIN ending ON ending.job = born.job AND ending.position > born.position
LEFT JOIN ended ON ended.job = born.job AND ended.position > born.position;

-- Every task of the jobs above.  `node` is where it runs or last ran; the exit code and failure are of the last try that ended;
-- retries and requeues are counted since it was added or reactivated.
CREATE VIEW tasks AS
WITH
    born AS (SELECT job, max(position) AS position FROM log WHERE type = 'job.created' GROUP BY job),
    added AS (
        SELECT job, task, max(position) AS position, at FROM log WHERE type = 'task.added' GROUP BY job, task
    ),
    anew AS (
        SELECT job, task, max(position) AS position FROM log WHERE type IN ('task.added', 'task.reactivated') GROUP BY job, task
    ),
    moved AS (
        SELECT
            job,
            task,
            max(position) AS position,
            at,
            data,
            CASE type
                WHEN 'task.added' THEN 'active'
                WHEN 'task.retried' THEN 'active'
                WHEN 'task.requeued' THEN 'active'
                WHEN 'task.reactivated' THEN 'active'
                ELSE substr(type, 6)
            END AS state
        FROM log
        WHERE type IN (
            'task.added', 'task.preparing', 'task.running', 'task.retried', 'task.requeued',
            'task.completed', 'task.reactivated', 'task.deleted'
        )
        GROUP BY job, task
    ),
    placed AS (
        SELECT job, task, max(position) AS position, node FROM log WHERE type IN ('task.preparing', 'task.running') GROUP BY job, task
    ),
    counted AS (
        SELECT log.job, log.task, sum(log.type = 'task.retried') AS retries, sum(log.type = 'task.requeued') AS requeues
        FROM log
        JOIN anew ON anew.job = log.job AND anew.task = log.task
        WHERE log.type IN ('task.retried', 'task.requeued') AND log.position > anew.position
        GROUP BY log.job, log.task
    )
SELECT
    moved.job,
    moved.task,
    moved.state,
    placed.node,
    json_extract(moved.data, '$.result') AS result,
    json_extract(moved.data, '$.exit_code') AS exit_code,
    json_extract(moved.data, '$.failure.code') AS failure_code,
    coalesce(counted.retries, 0) AS retries,
    coalesce(counted.requeues, 0) AS requeues,
    added.at AS added_at,
    CASE moved.state WHEN 'completed' THEN moved.at END AS ended_at,
    moved.position
FROM moved
JOIN born ON born.job = moved.job
JOIN added ON added.job = moved.job AND added.task = moved.task AND added.position > born.position
LEFT JOIN placed ON placed.job = moved.job AND placed.task = moved.task AND placed.position > added.position
LEFT JOIN counted ON counted.job = moved.job AND counted.task = moved.task;

-- Job preparation per job and node: its latest run.
CREATE VIEW preparations AS
WITH
    born AS (SELECT job, max(position) AS position FROM log WHERE type = 'job.created' GROUP BY job),
    started AS (
        SELECT job, node, max(position) AS position, at, recorded_at, execution
        FROM log WHERE type IN ('preparation.started', 'preparation.retried') GROUP BY job, node
    ),
    moved AS (
        SELECT
            job,
            node,
            max(position) AS position,
            at,
            recorded_at,
            data,
            CASE type WHEN 'preparation.started' THEN 'running' WHEN 'preparation.retried' THEN 'running' ELSE substr(type, 13) END AS state
        FROM log
        WHERE type IN ('preparation.started', 'preparation.retried', 'preparation.completed', 'preparation.due')
        GROUP BY job, node
    )
SELECT
    moved.job,
    moved.node,
    moved.state,
    json_extract(moved.data, '$.result') AS result,
    json_extract(moved.data, '$.exit_code') AS exit_code,
    json_extract(moved.data, '$.failure.code') AS failure_code,
    started.execution,
    started.at AS started_at,
    CASE moved.state WHEN 'completed' THEN moved.at END AS ended_at,
    CASE moved.state WHEN 'completed' THEN (moved.recorded_at - started.recorded_at) / 1e6 END AS duration_s,
    moved.position
FROM moved
JOIN born ON born.job = moved.job AND moved.position > born.position
LEFT JOIN started ON started.job = moved.job AND started.node = moved.node AND started.position > born.position;

-- Job release per job and node.  `cause` says why one that was owed was abandoned, or is owed again.
CREATE VIEW releases AS
WITH
    born AS (SELECT job, max(position) AS position FROM log WHERE type = 'job.created' GROUP BY job),
    started AS (
        SELECT job, node, max(position) AS position, at, recorded_at, execution FROM log WHERE type = 'release.started' GROUP BY job, node
    ),
    moved AS (
        SELECT
            job,
            node,
            max(position) AS position,
            at,
            recorded_at,
            data,
            CASE type WHEN 'release.started' THEN 'running' WHEN 'release.interrupted' THEN 'owed' ELSE substr(type, 9) END AS state
        FROM log
        WHERE type IN ('release.owed', 'release.started', 'release.interrupted', 'release.completed', 'release.abandoned')
        GROUP BY job, node
    )
SELECT
    moved.job,
    moved.node,
    moved.state,
    json_extract(moved.data, '$.result') AS result,
    json_extract(moved.data, '$.exit_code') AS exit_code,
    json_extract(moved.data, '$.failure.code') AS failure_code,
    json_extract(moved.data, '$.cause') AS cause,
    started.execution,
    started.at AS started_at,
    CASE moved.state WHEN 'completed' THEN moved.at END AS ended_at,
    CASE moved.state WHEN 'completed' THEN (moved.recorded_at - started.recorded_at) / 1e6 END AS duration_s,
    moved.position
FROM moved
JOIN born ON born.job = moved.job AND moved.position > born.position
LEFT JOIN started ON started.job = moved.job AND started.node = moved.node AND started.position > born.position;

-- Every launch of a command line.  `stop_cause` says why it was asked to stop, if it was; `duration_s` is what the executor measured, else the time between the events.
CREATE VIEW executions AS
WITH
    confirmed AS (SELECT execution, max(position) AS position, at, recorded_at, data FROM log WHERE type = 'execution.confirmed' GROUP BY execution),
    stopping AS (SELECT execution, max(position) AS position, data FROM log WHERE type = 'execution.stop-requested' GROUP BY execution),
    ended AS (
        SELECT execution, max(position) AS position, at, recorded_at, type, data
        FROM log WHERE type IN ('execution.ended', 'execution.never-ran', 'execution.unresolved') GROUP BY execution
    )
SELECT
    requested.execution,
    json_extract(requested.data, '$.kind') AS kind,
    requested.job,
    requested.task,
    requested.node,
    json_extract(requested.data, '$.attempt') AS attempt,
    CASE
        WHEN ended.type IS NOT NULL THEN substr(ended.type, 11)
        WHEN confirmed.position IS NOT NULL THEN 'running'
        ELSE 'requested'
    END AS state,
    json_extract(ended.data, '$.exit_code') AS exit_code,
    json_extract(ended.data, '$.signal') AS signal,
    json_extract(stopping.data, '$.cause') AS stop_cause,
    requested.at AS requested_at,
    confirmed.at AS started_at,
    ended.at AS ended_at,
    coalesce(json_extract(ended.data, '$.wall'), CASE ended.type WHEN 'execution.ended' THEN ended.recorded_at - confirmed.recorded_at END) / 1e6
        AS duration_s,
    coalesce(ended.position, max(stopping.position, confirmed.position), stopping.position, confirmed.position, requested.position) AS position
FROM log AS requested
LEFT JOIN confirmed ON confirmed.execution = requested.execution
LEFT JOIN stopping ON stopping.execution = requested.execution
LEFT JOIN ended ON ended.execution = requested.execution
WHERE requested.type = 'execution.requested';

-- Every node; one that was removed stays in the list as such.
CREATE VIEW nodes AS
WITH
    added AS (
        SELECT node, max(position) AS position, at, json_extract(data, '$.pool') AS pool FROM log WHERE type = 'node.added' GROUP BY node
    ),
    moved AS (
        SELECT
            node,
            max(position) AS position,
            at,
            CASE type
                WHEN 'node.added' THEN 'creating'
                WHEN 'node.reallocated' THEN 'creating'
                WHEN 'node.awaiting-start-task' THEN 'waitingforstarttask'
                WHEN 'node.start-task-failed' THEN 'starttaskfailed'
                WHEN 'node.leaving' THEN 'leavingpool'
                ELSE substr(type, 6)
            END AS state,
            json_extract(data, '$.reason') AS reason
        FROM log
        WHERE type IN (
            'node.added', 'node.starting', 'node.awaiting-start-task', 'node.start-task-failed', 'node.idle', 'node.running', 'node.offline',
            'node.rebooting', 'node.reimaging', 'node.unusable', 'node.unknown', 'node.preempted', 'node.reallocated',
            'node.deallocating', 'node.deallocated', 'node.leaving', 'node.removed'
        )
        GROUP BY node
    ),
    scheduling AS (
        SELECT node, max(position) AS position, substr(type, 17) AS state
        FROM log WHERE type IN ('node.scheduling-disabled', 'node.scheduling-enabled') GROUP BY node
    ),
    incarnation AS (
        SELECT node, max(position) AS position, json_extract(data, '$.incarnation') AS number
        FROM log WHERE type IN ('node.rebooting', 'node.reimaging', 'node.preempted', 'node.deallocating', 'node.leaving') GROUP BY node
    ),
    booted AS (SELECT node, max(position) AS position, at, json_extract(data, '$.boot_id') AS boot_id FROM log WHERE type = 'node.booted' GROUP BY node)
SELECT
    added.node,
    added.pool,
    moved.state,
    moved.reason,
    coalesce(scheduling.state, 'enabled') AS scheduling,
    coalesce(incarnation.number, 1) AS incarnation,
    booted.boot_id,
    added.at AS added_at,
    moved.at AS state_since,
    booted.at AS booted_at,
    moved.position
FROM added
JOIN moved ON moved.node = added.node
LEFT JOIN scheduling ON scheduling.node = added.node AND scheduling.position > added.position
LEFT JOIN incarnation ON incarnation.node = added.node AND incarnation.position > added.position
LEFT JOIN booted ON booted.node = added.node AND booted.position > added.position;
