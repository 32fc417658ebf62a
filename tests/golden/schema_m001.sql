CREATE TABLE ledger_migrations (
	name TEXT NOT NULL, 
	applied_at TEXT NOT NULL, 
	PRIMARY KEY (name)
)
 STRICT;
CREATE TABLE training_claims (
	run_id TEXT NOT NULL, 
	wandb_run_id TEXT NOT NULL, 
	occurred_at TEXT NOT NULL, 
	event_id TEXT NOT NULL, 
	resumes_run_id TEXT, 
	PRIMARY KEY (run_id)
)
 STRICT;
CREATE INDEX ix_training_claims_wandb_run_id ON training_claims (wandb_run_id);
CREATE TABLE training_events (
	position INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	event_id TEXT NOT NULL, 
	run_id TEXT NOT NULL, 
	version INTEGER NOT NULL, 
	type TEXT NOT NULL, 
	schema_version INTEGER NOT NULL, 
	occurred_at TEXT NOT NULL, 
	recorded_at TEXT NOT NULL, 
	source TEXT NOT NULL, 
	payload TEXT NOT NULL, 
	digest TEXT NOT NULL, 
	chain TEXT NOT NULL, 
	CONSTRAINT training_events_version UNIQUE (run_id, version), 
	UNIQUE (event_id)
)
 STRICT;
CREATE TABLE training_heads (
	run_id TEXT NOT NULL, 
	version INTEGER NOT NULL, 
	chain TEXT NOT NULL, 
	newest_occurred_at TEXT NOT NULL, 
	newest_event_id TEXT NOT NULL, 
	first_recorded_at TEXT NOT NULL, 
	unreadable INTEGER NOT NULL, 
	beside TEXT NOT NULL, 
	PRIMARY KEY (run_id)
)
 WITHOUT ROWID,
 STRICT;
CREATE TABLE training_runs (
	run_id TEXT NOT NULL, 
	wandb_run_id TEXT, 
	wandb_url TEXT, 
	run_name TEXT, 
	chain_of_custody_id TEXT, 
	config_file_path TEXT, 
	host TEXT, 
	instance_id TEXT, 
	created_at TEXT NOT NULL, 
	started_at TEXT, 
	ended_at TEXT, 
	duration_seconds INTEGER, 
	status TEXT NOT NULL CHECK (status IN ('launched', 'running', 'completed', 'failed', 'crashed')), 
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
	created_at_db TEXT, 
	updated_at_db TEXT, 
	end_reason TEXT CHECK (end_reason IN ('exception', 'signal', 'oom', 'preempted', 'timeout', 'node_failure', 'user', 'unknown')), 
	exit_code INTEGER, 
	instance_type TEXT, 
	last_seen_at TEXT, 
	active_seconds INTEGER, 
	resumes_run_id TEXT, 
	wandb_name TEXT, 
	tags_json TEXT, 
	note TEXT, 
	metadata_json TEXT, 
	PRIMARY KEY (run_id)
)
 STRICT;
CREATE INDEX training_runs_chain_of_custody_id_newest ON training_runs (chain_of_custody_id, created_at DESC, run_id);
CREATE INDEX training_runs_gradient_method_newest ON training_runs (gradient_method, created_at DESC, run_id);
CREATE INDEX training_runs_gradient_method_status_newest ON training_runs (gradient_method, status, created_at DESC, run_id);
CREATE INDEX training_runs_host_newest ON training_runs (host, created_at DESC, run_id);
CREATE INDEX training_runs_newest ON training_runs (created_at DESC, run_id);
CREATE INDEX training_runs_status_newest ON training_runs (status, created_at DESC, run_id);
CREATE UNIQUE INDEX training_runs_wandb_run_id ON training_runs (wandb_run_id);
CREATE TABLE voided_runs (
	run_id TEXT NOT NULL, 
	wandb_run_id TEXT, 
	wandb_url TEXT, 
	run_name TEXT, 
	chain_of_custody_id TEXT, 
	config_file_path TEXT, 
	host TEXT, 
	instance_id TEXT, 
	created_at TEXT NOT NULL, 
	started_at TEXT, 
	ended_at TEXT, 
	duration_seconds INTEGER, 
	status TEXT NOT NULL CHECK (status IN ('launched', 'running', 'completed', 'failed', 'crashed')), 
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
	created_at_db TEXT, 
	updated_at_db TEXT, 
	end_reason TEXT CHECK (end_reason IN ('exception', 'signal', 'oom', 'preempted', 'timeout', 'node_failure', 'user', 'unknown')), 
	exit_code INTEGER, 
	instance_type TEXT, 
	last_seen_at TEXT, 
	active_seconds INTEGER, 
	resumes_run_id TEXT, 
	wandb_name TEXT, 
	tags_json TEXT, 
	note TEXT, 
	metadata_json TEXT, 
	reason TEXT NOT NULL, 
	PRIMARY KEY (run_id)
)
 STRICT;
CREATE INDEX voided_runs_chain_of_custody_id ON voided_runs (chain_of_custody_id);
CREATE TRIGGER training_events_no_update BEFORE UPDATE ON training_events BEGIN SELECT RAISE(ABORT, 'training_events is append-only: amend or void the run instead'); END;
CREATE TRIGGER training_events_no_delete BEFORE DELETE ON training_events BEGIN SELECT RAISE(ABORT, 'training_events is append-only: amend or void the run instead'); END;
CREATE TRIGGER training_events_no_replace BEFORE INSERT ON training_events WHEN EXISTS (SELECT 1 FROM training_events WHERE event_id = NEW.event_id) OR EXISTS (SELECT 1 FROM training_events WHERE run_id = NEW.run_id AND version = NEW.version) OR EXISTS (SELECT 1 FROM training_events WHERE position = NEW.position) BEGIN SELECT RAISE(ABORT, 'training_events is append-only: amend or void the run instead'); END;
