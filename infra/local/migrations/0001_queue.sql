-- The queues of one machine: what SQS is in the cloud.

CREATE SCHEMA mlops_queue;

CREATE TABLE mlops_queue.messages (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    function text NOT NULL,
    body text NOT NULL,
    receives int NOT NULL DEFAULT 0,
    due timestamptz NOT NULL DEFAULT now(),
    last_error text,
    created timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX messages_due ON mlops_queue.messages (due);

CREATE TABLE mlops_queue.dead_letters (
    id bigint PRIMARY KEY,
    function text NOT NULL,
    body text NOT NULL,
    receives int NOT NULL,
    last_error text,
    created timestamptz NOT NULL,
    died timestamptz NOT NULL DEFAULT now()
);
