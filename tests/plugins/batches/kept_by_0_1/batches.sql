CREATE TABLE answers (
    batch TEXT NOT NULL,
    line INTEGER NOT NULL,
    failed INTEGER NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (batch, line)
);
INSERT INTO "answers" VALUES('batch_runs',1,0,X'7B2261223A317D0A');
INSERT INTO "answers" VALUES('batch_runs',3,1,X'7B2265223A317D0A');
CREATE TABLE arrivals (
    id TEXT PRIMARY KEY,
    tenant TEXT NOT NULL,
    bytes INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
);
INSERT INTO "arrivals" VALUES('file-coming','a',100,1800000060);
CREATE TABLE batches (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    tenant TEXT NOT NULL,
    endpoint TEXT NOT NULL,
    input_file_id TEXT NOT NULL,
    completion_window TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    keep_seconds INTEGER NOT NULL,
    metadata TEXT NOT NULL,
    status TEXT NOT NULL,
    total INTEGER NOT NULL,
    completed INTEGER NOT NULL,
    failed INTEGER NOT NULL,
    problems TEXT NOT NULL,
    output_file_id TEXT,
    error_file_id TEXT,
    times TEXT NOT NULL,
    moved_at INTEGER NOT NULL,
    answer_bytes INTEGER NOT NULL
);
INSERT INTO "batches" VALUES(1,'batch_runs','a','/v1/generate','file-in','24h',1800000000,1800086400,3600,'{"job": "7"}','in_progress',3,1,1,'[]',NULL,NULL,'{"in_progress":1800000000}',1800000000,16);
INSERT INTO "batches" VALUES(2,'batch_failed','a','/v1/generate','file-in','24h',1800000000,1800086400,3600,'null','failed',0,0,0,'[{"code": "invalid_json_line", "message": "bad", "line": 2, "param": "body"}]',NULL,NULL,'{"failed":1800000000}',1800000000,0);
INSERT INTO "batches" VALUES(3,'batch_done','a','/v1/generate','file-in','24h',1800000000,1800086400,3600,'null','completed',1,1,0,'[]','file-out',NULL,'{"in_progress":1800000000,"finalizing":1800000000,"completed":1800000000}',1800000000,0);
CREATE TABLE files (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    tenant TEXT NOT NULL,
    name TEXT NOT NULL,
    purpose TEXT NOT NULL,
    bytes INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
);
INSERT INTO "files" VALUES(1,'file-in','a','in.jsonl','batch',10,1800000000,1800086400);
INSERT INTO "files" VALUES(2,'file-other','b','other.jsonl','batch',7,1800000000,1800086400);
INSERT INTO "files" VALUES(3,'file-out','a','o','batch_output',2,1800000000,1800003600);
CREATE INDEX files_of_tenant ON files (tenant, seq);
CREATE INDEX batches_of_tenant ON batches (tenant, seq);
CREATE INDEX batches_by_status ON batches (status, seq);
PRAGMA user_version = 2;
