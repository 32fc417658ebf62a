"""A database as the earlier API made it, and as its later versions left it: its schema, and rows that it had."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path

SCHEMA = """
CREATE TABLE training_runs (
    run_id TEXT PRIMARY KEY,
    wandb_run_id TEXT UNIQUE,
    wandb_url TEXT,
    run_name TEXT,
    chain_of_custody_id TEXT,
    config_file_path TEXT,
    host TEXT,
    instance_id TEXT,
    created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP,
    started_at TIMESTAMP,
    ended_at TIMESTAMP,
    duration_seconds INTEGER,
    status TEXT DEFAULT 'running',
    batch_size INTEGER,
    learning_rate REAL,
    beta REAL,
    gradient_method TEXT,
    num_gpus INTEGER,
    num_objectives INTEGER,
    num_scaffolds INTEGER,
    config_json TEXT,
    final_metrics_json TEXT,
    blog_post_url TEXT,
    conversation_s3_key TEXT,
    crash_report_s3_key TEXT,
    error_log_s3_key TEXT,
    crash_analysis_s3_key TEXT,
    created_at_db TIMESTAMP DEFAULT CURRENT_TIMESTAMP,
    updated_at_db TIMESTAMP DEFAULT CURRENT_TIMESTAMP
);
CREATE INDEX idx_status ON training_runs(status);
CREATE TRIGGER update_training_runs_timestamp AFTER UPDATE ON training_runs
BEGIN
    UPDATE training_runs SET updated_at_db = '2025-12-01 00:00:00' WHERE run_id = NEW.run_id;
END;
"""

LATER = """
ALTER TABLE training_runs ADD COLUMN mini_batch_size INTEGER;
ALTER TABLE training_runs ADD COLUMN normalize_advantages BOOLEAN;
ALTER TABLE training_runs ADD COLUMN final_loss REAL;
ALTER TABLE training_runs ADD COLUMN total_training_steps INTEGER;
ALTER TABLE training_runs ADD COLUMN history_json TEXT;
CREATE TABLE run_objectives (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    run_id TEXT NOT NULL REFERENCES training_runs(run_id),
    objective_name TEXT,
    objective_alias TEXT,
    uniprot TEXT,
    weight REAL,
    direction TEXT,
    raw_mean REAL,
    normalized_mean REAL,
    raw_std REAL,
    normalized_std REAL
);
"""

ROWS = """
INSERT INTO training_runs (run_id, chain_of_custody_id, run_name, config_file_path, host, instance_id, created_at, status,
    batch_size, learning_rate, beta, gradient_method, num_gpus, num_objectives, num_scaffolds, config_json,
    conversation_s3_key, created_at_db, updated_at_db)
VALUES ('a_launched', 'ABC123', 'mgda_test', '/configs/a.yaml', 'ec2', 'i-1', '2025-11-11 10:22:33', 'launched',
    384, 1e-4, 0.05, 'mgda', 4, 2, 1,
    '{"training": {"batch_size": 384, "learning_rate": 1e-4, "num_processes": 4}, "reward": {"gradient_method": "mgda", "beta": 0.05}, "objectives": [{"name": "COMT"}, {"name": "MAOB"}], "generation": {"scaffolds": [{"name": "benzene"}]}}',
    'conversations/a/conversation.json', '2025-11-11 10:22:33', '2025-11-11 10:22:34');

INSERT INTO training_runs (run_id, wandb_run_id, wandb_url, created_at, started_at, status, batch_size, config_json,
    final_metrics_json, created_at_db, updated_at_db)
VALUES ('b_running', 'wb', 'https://wandb.ai/x/wb', '2025-11-11T10:22:33.123456', '2025-11-11T11:00:00Z', 'running', 64,
    '{"batch_size": 32}', '{"loss": 0.5}', '2025-11-11 10:22:33', '2025-11-11 12:00:00');

INSERT INTO training_runs (run_id, wandb_run_id, wandb_url, created_at, started_at, ended_at, duration_seconds, status,
    config_json, final_metrics_json, blog_post_url, created_at_db, updated_at_db)
VALUES ('c_completed', 'wc', 'https://wandb.ai/x/wc', '2025-11-11T10:00:00', '2025-11-11T12:30:00+02:00',
    '2025-11-11T11:30:00.5', 3601, 'completed', '{}', '{"loss": 0.1, "objectives/COMT/raw_mean": 0.7, "bad": NaN}',
    'https://posts/c', '2025-11-11 10:00:00', '2025-11-12 00:00:00');

INSERT INTO training_runs (run_id, created_at, started_at, status, crash_report_s3_key, error_log_s3_key,
    crash_analysis_s3_key, config_json, created_at_db, updated_at_db)
VALUES ('d_crashed', '2025-11-11 10:00:00', '2025-11-11 10:05:00', 'crashed', 'd/report.md', 'd/error.log',
    'd/analysis.md', NULL, '2025-11-11 10:00:00', '2025-11-11 15:00:00');

INSERT INTO training_runs (run_id, created_at, ended_at, status, config_json, created_at_db, updated_at_db)
VALUES ('e_not_running', '2025-11-11 10:00:00', '2025-11-11 18:00:00', 'not_running', '{"cut": "off',
    '2025-11-11 10:00:00', '2025-11-11 18:00:00');

INSERT INTO training_runs (run_id, status, created_at) VALUES ('f_running', 'running', '2025-11-11 10:00:00');
"""

LATER_ROWS = """
UPDATE training_runs SET mini_batch_size = 16, normalize_advantages = 1, final_loss = 0.1, total_training_steps = 2000,
    history_json = '[{"step": 1, "loss": 0.9}, {"step": 2, "loss": NaN}]' WHERE run_id = 'c_completed';
INSERT INTO run_objectives (run_id, objective_name, objective_alias, uniprot, weight, direction, raw_mean, normalized_mean,
    raw_std, normalized_std) VALUES
    ('c_completed', 'COMT_activity', 'COMT_activity_maximize', 'P21964', 2.0, 'maximize', 0.7, 0.8, 0.1, NULL),
    ('c_completed', 'MAOB_activity', 'MAOB_activity_minimize', 'P27338', 1.0, 'minimize', 0.2, 0.3, 0.1, 0.05);
"""


def made(path: Path, *scripts: str) -> Path:
    """Run SQL on a file, and close it."""
    with closing(sqlite3.connect(path)) as db:
        for script in scripts:
            db.executescript(script)
        db.commit()
    return path


def inserted(path: Path, rows: Iterable[Mapping[str, object]], table: str = "training_runs") -> Path:
    """Insert rows of any values."""
    with closing(sqlite3.connect(path)) as db:
        for row in rows:
            names = ", ".join(f'"{name}"' for name in row)
            db.execute(f"INSERT INTO {table} ({names}) VALUES ({', '.join('?' * len(row))})", list(row.values()))
        db.commit()
    return path
