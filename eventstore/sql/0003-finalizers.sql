-- The job finalizer per job.  `node` is `.engine` for the engine's host; `cause` says why it was abandoned, or is due again.
CREATE VIEW finalizers AS
WITH
    born AS (SELECT job, max(position) AS position FROM log WHERE type = 'job.created' GROUP BY job),
    started AS (
        SELECT job, max(position) AS position, at, recorded_at, execution FROM log WHERE type = 'finalizer.started' GROUP BY job
    ),
    moved AS (
        SELECT
            job,
            node,
            max(position) AS position,
            at,
            recorded_at,
            data,
            CASE type WHEN 'finalizer.started' THEN 'running' WHEN 'finalizer.interrupted' THEN 'due' ELSE substr(type, 11) END AS state
        FROM log
        WHERE type IN ('finalizer.started', 'finalizer.interrupted', 'finalizer.completed', 'finalizer.abandoned')
        GROUP BY job
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
LEFT JOIN started ON started.job = moved.job AND started.position > born.position;
