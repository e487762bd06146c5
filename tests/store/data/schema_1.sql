-- A store of schema version 1, as `iterdump` of sqlite3 writes what dreamsim wrote then: three episodes.
BEGIN TRANSACTION;
CREATE TABLE episodes (
    number INTEGER PRIMARY KEY,            -- in the order of storing
    id TEXT NOT NULL UNIQUE,
    run TEXT NOT NULL,
    task_key TEXT NOT NULL REFERENCES tasks (key),
    environment TEXT NOT NULL,             -- the task's, repeated so that filters need no join
    fold TEXT NOT NULL,
    repeat INTEGER NOT NULL,
    source TEXT NOT NULL,
    purpose TEXT NOT NULL,
    outcome TEXT NOT NULL,
    error_kind TEXT,
    error_message TEXT,
    policy TEXT NOT NULL,
    experience_model TEXT NOT NULL,
    started_at REAL NOT NULL,
    duration_s REAL NOT NULL,
    step_count INTEGER NOT NULL,
    total_reward REAL NOT NULL
);
INSERT INTO "episodes" VALUES(1,'a9b5c5dff8c7afe4348a','run','24ad071168125e8f','house','train',0,'real','experience','truncated',NULL,NULL,'','',0.0,0.0,3,0.0);
INSERT INTO "episodes" VALUES(2,'5b275b617f985018495b','run','99cfd9f63ad833f3','house','train',0,'dreamed','experience','truncated',NULL,NULL,'','',0.0,0.0,3,0.0);
INSERT INTO "episodes" VALUES(3,'393495f693ada117af7e','run','748786ccea1981cb','house','train',0,'real','experience','truncated',NULL,NULL,'','',0.0,0.0,1,0.0);
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
INSERT INTO "meta" VALUES('schema_version','1');
CREATE TABLE steps (
    id INTEGER PRIMARY KEY,                -- the key in the search index
    episode INTEGER NOT NULL REFERENCES episodes (number),
    step INTEGER NOT NULL,                 -- from 0
    state TEXT NOT NULL,                   -- before the action
    action TEXT NOT NULL,
    changes TEXT NOT NULL,                 -- JSON list: what `records.state.changes` says
    next_state TEXT NOT NULL,
    reasoning TEXT NOT NULL,
    reward REAL NOT NULL,
    outcome TEXT NOT NULL,
    score REAL,
    admissible TEXT NOT NULL,              -- JSON list
    samples INTEGER NOT NULL,
    retrieved TEXT NOT NULL,               -- JSON list
    text_hash INTEGER NOT NULL,            -- 64 bits of the hash of `embedding_text(state, action)`
    decision_action TEXT,                  -- null: there is no decision
    thought TEXT,
    prompt_shared INTEGER,                 -- ids it begins with that the step before's prompt and answer have
    prompt_ids BLOB,                       -- the ids after those; int32, little-endian
    completion_ids BLOB,                   -- int32; null: the policy is no language model
    completion_logprobs BLOB,              -- float32
    finish_reason TEXT,
    prompt_tokens INTEGER,
    cached_tokens INTEGER,
    policy_version TEXT,                   -- of the weights that sampled this step
    UNIQUE (episode, step)
);
INSERT INTO "steps" VALUES(1,1,0,'["at: room 1","apple: held","key: in box","lamp: in fridge","mug: on table","shirt: held","spoon: in box"]','open mug','["apple: on table","key: held","lamp: in box","mug: in fridge","shirt: on table","spoon: held"]','["at: room 1","apple: on table","key: held","lamp: in box","mug: in fridge","shirt: on table","spoon: held"]','',0.0,'running',NULL,'[]',1,'[]',-2061891675891923494,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "steps" VALUES(2,1,1,'["at: room 1","apple: on table","key: held","lamp: in box","mug: in fridge","shirt: on table","spoon: held"]','eat shirt','["apple: in fridge","key: on table","lamp: held","mug: in box","shirt: in fridge","spoon: on table"]','["at: room 1","apple: in fridge","key: on table","lamp: held","mug: in box","shirt: in fridge","spoon: on table"]','',0.0,'running',NULL,'[]',1,'[]',3680400888090420140,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "steps" VALUES(3,1,2,'["at: room 1","apple: in fridge","key: on table","lamp: held","mug: in box","shirt: in fridge","spoon: on table"]','examine spoon','["apple: in box","key: in fridge","lamp: on table","mug: held","shirt: in box","spoon: in fridge"]','["at: room 1","apple: in box","key: in fridge","lamp: on table","mug: held","shirt: in box","spoon: in fridge"]','',0.0,'running',NULL,'[]',1,'[]',6250372192392097190,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "steps" VALUES(4,2,0,'["at: room 2","apple: on table","key: in box","lamp: on table","mug: in box","shirt: on table","spoon: in box"]','eat apple','["apple: in fridge","key: held","lamp: in fridge","mug: held","shirt: in fridge","spoon: held"]','["at: room 2","apple: in fridge","key: held","lamp: in fridge","mug: held","shirt: in fridge","spoon: held"]','',0.0,'running',NULL,'[]',1,'[]',-2114038712006647224,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "steps" VALUES(5,2,1,'["at: room 2","apple: in fridge","key: held","lamp: in fridge","mug: held","shirt: in fridge","spoon: held"]','examine key','["apple: in box","key: on table","lamp: in box","mug: on table","shirt: in box","spoon: on table"]','["at: room 2","apple: in box","key: on table","lamp: in box","mug: on table","shirt: in box","spoon: on table"]','',0.0,'running',NULL,'[]',1,'[]',-2543895763688661115,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "steps" VALUES(6,2,2,'["at: room 2","apple: in box","key: on table","lamp: in box","mug: on table","shirt: in box","spoon: on table"]','take lamp','["apple: held","key: in fridge","lamp: held","mug: in fridge","shirt: held","spoon: in fridge"]','["at: room 2","apple: held","key: in fridge","lamp: held","mug: in fridge","shirt: held","spoon: in fridge"]','',0.0,'running',NULL,'[]',1,'[]',2535521559623176552,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "steps" VALUES(7,3,0,'["at: room 3","apple: in fridge","key: in box","lamp: held","mug: on table","shirt: in fridge","spoon: in box"]','examine mug','["apple: in box","key: held","lamp: on table","mug: in fridge","shirt: in box","spoon: held"]','["at: room 3","apple: in box","key: held","lamp: on table","mug: in fridge","shirt: in box","spoon: held"]','',0.0,'running',NULL,'[]',1,'[]',-6670815649287176304,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
CREATE TABLE tasks (
    key TEXT PRIMARY KEY,
    environment TEXT NOT NULL,
    instruction TEXT NOT NULL,
    first_state TEXT NOT NULL,             -- JSON list of lines, as are all states
    fold TEXT NOT NULL,
    seed INTEGER NOT NULL,
    parameters TEXT NOT NULL               -- JSON object
) WITHOUT ROWID;
INSERT INTO "tasks" VALUES('24ad071168125e8f','house','task 1','["at: room 1","apple: held","key: in box","lamp: in fridge","mug: on table","shirt: held","spoon: in box"]','train',1,'{}');
INSERT INTO "tasks" VALUES('748786ccea1981cb','house','task 3','["at: room 3","apple: in fridge","key: in box","lamp: held","mug: on table","shirt: in fridge","spoon: in box"]','train',3,'{}');
INSERT INTO "tasks" VALUES('99cfd9f63ad833f3','house','task 2','["at: room 2","apple: on table","key: in box","lamp: on table","mug: in box","shirt: on table","spoon: in box"]','train',2,'{}');
CREATE INDEX episodes_by_run ON episodes (run, source, purpose, outcome, error_kind);
CREATE INDEX episodes_by_task ON episodes (task_key);
COMMIT;
