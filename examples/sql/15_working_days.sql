-- A complaint comes in on a Friday at 16:00. By when is it to be answered, and how many office hours are left for it?
--
-- The answer is due after five working days; a holiday between does not count. The calendar is Indonesia's of 2013, when the
-- Monday in between, the 14th of October, was a working day and the Tuesday, Eid al-Adha, was not.
SELECT
    received,
    is_working_day(received, 'ID') AS on_working_day,
    add_working_days(received, 5, 'ID') AS due,
    add_working_days(received, 5) AS due_without_holidays,
    working_seconds_between(received, add_working_days(received, 5, 'ID'), '08:00', '16:30', 'ID') / 3600 AS office_hours
FROM (VALUES (TIMESTAMP '2013-10-11T16:00:00'), (TIMESTAMP '2013-12-20T16:00:00')) AS complaints(received)
ORDER BY received;
