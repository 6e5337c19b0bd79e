-- The id of the request that caused a change follows its event. A writer says it with
-- set_config('mlops.request_id', ..., true); one that does not leaves none.
ALTER TABLE mlops.outbox ADD COLUMN request_id text
    DEFAULT nullif(current_setting('mlops.request_id', true), '');
