BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('dc11669786a5');
CREATE TABLE "assessments" (
	assessment_id VARCHAR(50) NOT NULL, 
	trace_id VARCHAR(50) NOT NULL, 
	name VARCHAR(250) NOT NULL, 
	assessment_type VARCHAR(20) NOT NULL, 
	value TEXT NOT NULL, 
	error TEXT, 
	created_timestamp BIGINT NOT NULL, 
	last_updated_timestamp BIGINT NOT NULL, 
	source_type VARCHAR(50) NOT NULL, 
	source_id VARCHAR(250), 
	run_id VARCHAR(32), 
	span_id VARCHAR(50), 
	rationale TEXT, 
	overrides VARCHAR(50), 
	valid BOOLEAN NOT NULL, 
	assessment_metadata TEXT, 
	experiment_id INTEGER, 
	trace_timestamp_ms BIGINT, 
	aggregate_value FLOAT, 
	is_numeric_value BOOLEAN DEFAULT 0 NOT NULL, 
	CONSTRAINT assessments_pk PRIMARY KEY (assessment_id), 
	CONSTRAINT fk_assessments_trace_id FOREIGN KEY(trace_id) REFERENCES trace_info (request_id) ON DELETE CASCADE
);
CREATE TABLE budget_policies (
	budget_policy_id VARCHAR(36) NOT NULL, 
	budget_unit VARCHAR(32) NOT NULL, 
	budget_amount FLOAT NOT NULL, 
	duration_unit VARCHAR(32) NOT NULL, 
	duration_value INTEGER NOT NULL, 
	target_scope VARCHAR(32) NOT NULL, 
	budget_action VARCHAR(32) NOT NULL, 
	created_by VARCHAR(255), 
	created_at BIGINT NOT NULL, 
	last_updated_by VARCHAR(255), 
	last_updated_at BIGINT NOT NULL, 
	workspace VARCHAR(63) DEFAULT 'default' NOT NULL, target_value VARCHAR(255), 
	CONSTRAINT budget_policies_pk PRIMARY KEY (budget_policy_id)
);
CREATE TABLE "datasets" (
	dataset_uuid VARCHAR(36) NOT NULL, 
	experiment_id INTEGER NOT NULL, 
	name VARCHAR(500) NOT NULL, 
	digest VARCHAR(36) NOT NULL, 
	dataset_source_type VARCHAR(36) NOT NULL, 
	dataset_source TEXT NOT NULL, 
	dataset_schema TEXT, 
	dataset_profile TEXT, 
	CONSTRAINT dataset_pk PRIMARY KEY (experiment_id, name, digest), 
	CONSTRAINT fk_datasets_experiment_id_experiments FOREIGN KEY(experiment_id) REFERENCES experiments (experiment_id) ON DELETE CASCADE
);
INSERT INTO "datasets" VALUES('1a20258c0e994dd4a72d0a6fa74aa83f',1,'windows.zarr','d3072053caef286e2e64e0196d0c8c94c679','zarr','{"uri": "line/windows.zarr"}','{"lines": ["Heta-3836", "NeIII-3869", "Hzet-3890", "NeIII-3968", "Heps-3971", "Hdel-4102", "Hgam-4341", "HeII-4687", "Hb-4862", "OIII-4960", "OIII-5008", "HeI-5877", "OI-6302", "OI-6365", "NII-6549", "Ha-6564", "NII-6585", "SII-6718", "SII-6732"], "shape": [19, 6, 8]}','{"identity": "d3072053caef286e2e64e0196d0c8c94c679aa58951a09e11e6f608f7dc8649f", "rows": {"train": 5, "validation": 3, "test": 1}}');
CREATE TABLE endpoint_bindings (
	endpoint_id VARCHAR(36) NOT NULL, 
	resource_type VARCHAR(50) NOT NULL, 
	resource_id VARCHAR(255) NOT NULL, 
	created_at BIGINT NOT NULL, 
	created_by VARCHAR(255), 
	last_updated_at BIGINT NOT NULL, 
	last_updated_by VARCHAR(255), display_name VARCHAR(255), 
	CONSTRAINT endpoint_bindings_pk PRIMARY KEY (endpoint_id, resource_type, resource_id), 
	CONSTRAINT fk_endpoint_bindings_endpoint_id FOREIGN KEY(endpoint_id) REFERENCES endpoints (endpoint_id) ON DELETE CASCADE
);
CREATE TABLE endpoint_model_mappings (
	mapping_id VARCHAR(36) NOT NULL, 
	endpoint_id VARCHAR(36) NOT NULL, 
	model_definition_id VARCHAR(36) NOT NULL, 
	weight FLOAT NOT NULL, 
	created_by VARCHAR(255), 
	created_at BIGINT NOT NULL, linkage_type VARCHAR(64) DEFAULT 'PRIMARY' NOT NULL, fallback_order INTEGER, 
	CONSTRAINT endpoint_model_mappings_pk PRIMARY KEY (mapping_id), 
	CONSTRAINT fk_endpoint_model_mappings_endpoint_id FOREIGN KEY(endpoint_id) REFERENCES endpoints (endpoint_id) ON DELETE CASCADE, 
	CONSTRAINT fk_endpoint_model_mappings_model_definition_id FOREIGN KEY(model_definition_id) REFERENCES model_definitions (model_definition_id)
);
CREATE TABLE endpoint_tags (
	"key" VARCHAR(250) NOT NULL, 
	value VARCHAR(5000), 
	endpoint_id VARCHAR(36) NOT NULL, 
	CONSTRAINT endpoint_tag_pk PRIMARY KEY ("key", endpoint_id), 
	CONSTRAINT fk_endpoint_tags_endpoint_id FOREIGN KEY(endpoint_id) REFERENCES endpoints (endpoint_id) ON DELETE CASCADE
);
CREATE TABLE "endpoints" (
	endpoint_id VARCHAR(36) NOT NULL, 
	name VARCHAR(255), 
	created_by VARCHAR(255), 
	created_at BIGINT NOT NULL, 
	last_updated_by VARCHAR(255), 
	last_updated_at BIGINT NOT NULL, 
	routing_strategy VARCHAR(64), 
	fallback_config_json TEXT, 
	experiment_id INTEGER, 
	usage_tracking BOOLEAN DEFAULT '0' NOT NULL, 
	workspace VARCHAR(63) DEFAULT 'default' NOT NULL, 
	CONSTRAINT endpoints_pk PRIMARY KEY (endpoint_id), 
	CONSTRAINT fk_endpoints_experiment_id FOREIGN KEY(experiment_id) REFERENCES experiments (experiment_id) ON DELETE SET NULL, 
	CONSTRAINT uq_endpoints_workspace_name UNIQUE (workspace, name)
);
CREATE TABLE entity_associations (
	association_id VARCHAR(36) NOT NULL, 
	source_type VARCHAR(36) NOT NULL, 
	source_id VARCHAR(36) NOT NULL, 
	destination_type VARCHAR(36) NOT NULL, 
	destination_id VARCHAR(36) NOT NULL, 
	created_time BIGINT, 
	CONSTRAINT entity_associations_pk PRIMARY KEY (source_type, source_id, destination_type, destination_id)
);
CREATE TABLE "evaluation_dataset_records" (
	dataset_record_id VARCHAR(36) NOT NULL, 
	dataset_id VARCHAR(36) NOT NULL, 
	inputs JSON NOT NULL, 
	expectations JSON, 
	tags JSON, 
	source JSON, 
	source_id VARCHAR(36), 
	source_type VARCHAR(255), 
	created_time BIGINT, 
	last_update_time BIGINT, 
	created_by VARCHAR(255), 
	last_updated_by VARCHAR(255), 
	input_hash VARCHAR(64) NOT NULL, outputs JSON, 
	CONSTRAINT evaluation_dataset_records_pk PRIMARY KEY (dataset_record_id), 
	CONSTRAINT fk_evaluation_dataset_records_dataset_id FOREIGN KEY(dataset_id) REFERENCES evaluation_datasets (dataset_id) ON DELETE CASCADE, 
	CONSTRAINT unique_dataset_input UNIQUE (dataset_id, input_hash)
);
CREATE TABLE evaluation_dataset_tags (
	dataset_id VARCHAR(36) NOT NULL, 
	"key" VARCHAR(255) NOT NULL, 
	value VARCHAR(5000), 
	CONSTRAINT evaluation_dataset_tags_pk PRIMARY KEY (dataset_id, "key"), 
	CONSTRAINT fk_evaluation_dataset_tags_dataset_id FOREIGN KEY(dataset_id) REFERENCES evaluation_datasets (dataset_id) ON DELETE CASCADE
);
CREATE TABLE "evaluation_datasets" (
	dataset_id VARCHAR(36) NOT NULL, 
	name VARCHAR(255) NOT NULL, 
	schema TEXT, 
	profile TEXT, 
	digest VARCHAR(64), 
	created_time BIGINT, 
	last_update_time BIGINT, 
	created_by VARCHAR(255), 
	last_updated_by VARCHAR(255), 
	workspace VARCHAR(63) DEFAULT 'default' NOT NULL, 
	CONSTRAINT evaluation_datasets_pk PRIMARY KEY (dataset_id)
);
CREATE TABLE "experiment_tags" (
	"key" VARCHAR(250) NOT NULL, 
	value TEXT, 
	experiment_id INTEGER NOT NULL, 
	CONSTRAINT experiment_tag_pk PRIMARY KEY ("key", experiment_id), 
	FOREIGN KEY(experiment_id) REFERENCES experiments (experiment_id)
);
CREATE TABLE "experiments" (
	experiment_id INTEGER NOT NULL, 
	name VARCHAR(256) NOT NULL, 
	artifact_location VARCHAR(256), 
	lifecycle_stage VARCHAR(32), 
	creation_time BIGINT, 
	last_update_time BIGINT, 
	workspace VARCHAR(63) DEFAULT 'default' NOT NULL, 
	CONSTRAINT experiment_pk PRIMARY KEY (experiment_id), 
	CONSTRAINT experiments_lifecycle_stage CHECK (lifecycle_stage IN ('active', 'deleted')), 
	CONSTRAINT uq_experiments_workspace_name UNIQUE (workspace, name)
);
INSERT INTO "experiments" VALUES(0,'Default','FOLDER/mlruns/0','active',1795687999067,1795687999067,'default');
INSERT INTO "experiments" VALUES(1,'cubescout','file://WORKSPACE/mlartifacts/cubescout','active',1795687999106,1795687999106,'default');
CREATE TABLE guardrail_configs (
	endpoint_id VARCHAR(36) NOT NULL, 
	guardrail_id VARCHAR(36) NOT NULL, 
	execution_order INTEGER, 
	created_by VARCHAR(255), 
	created_at BIGINT NOT NULL, 
	workspace VARCHAR(63) DEFAULT 'default' NOT NULL, 
	CONSTRAINT guardrail_configs_pk PRIMARY KEY (endpoint_id, guardrail_id), 
	CONSTRAINT fk_guardrail_configs_endpoint_id FOREIGN KEY(endpoint_id) REFERENCES endpoints (endpoint_id) ON DELETE CASCADE, 
	CONSTRAINT fk_guardrail_configs_guardrail_id FOREIGN KEY(guardrail_id) REFERENCES guardrails (guardrail_id) ON DELETE CASCADE
);
CREATE TABLE guardrails (
	guardrail_id VARCHAR(36) NOT NULL, 
	name VARCHAR(255) NOT NULL, 
	scorer_id VARCHAR(36) NOT NULL, 
	scorer_version INTEGER NOT NULL, 
	stage VARCHAR(32) NOT NULL, 
	action VARCHAR(32) NOT NULL, 
	action_endpoint_id VARCHAR(36), 
	created_by VARCHAR(255), 
	created_at BIGINT NOT NULL, 
	last_updated_by VARCHAR(255), 
	last_updated_at BIGINT NOT NULL, 
	workspace VARCHAR(63) DEFAULT 'default' NOT NULL, 
	CONSTRAINT guardrails_pk PRIMARY KEY (guardrail_id), 
	CONSTRAINT fk_guardrails_scorer_version FOREIGN KEY(scorer_id, scorer_version) REFERENCES scorer_versions (scorer_id, scorer_version), 
	CONSTRAINT fk_guardrails_action_endpoint_id FOREIGN KEY(action_endpoint_id) REFERENCES endpoints (endpoint_id) ON DELETE SET NULL
);
CREATE TABLE input_tags (
	input_uuid VARCHAR(36) NOT NULL, 
	name VARCHAR(255) NOT NULL, 
	value VARCHAR(500) NOT NULL, 
	CONSTRAINT input_tags_pk PRIMARY KEY (input_uuid, name)
);
INSERT INTO "input_tags" VALUES('21f5ab26b4bc42ef8250706bf4ed6df1','mlflow.data.context','prepare');
INSERT INTO "input_tags" VALUES('8a69e7ff32a24dc49ad0a78fba338d26','mlflow.data.context','training');
INSERT INTO "input_tags" VALUES('f18523cf7b3a4923b76470e89627e939','mlflow.data.context','scoring');
CREATE TABLE inputs (
	input_uuid VARCHAR(36) NOT NULL, 
	source_type VARCHAR(36) NOT NULL, 
	source_id VARCHAR(36) NOT NULL, 
	destination_type VARCHAR(36) NOT NULL, 
	destination_id VARCHAR(36) NOT NULL, step BIGINT DEFAULT '0' NOT NULL, 
	CONSTRAINT inputs_pk PRIMARY KEY (source_type, source_id, destination_type, destination_id)
);
INSERT INTO "inputs" VALUES('21f5ab26b4bc42ef8250706bf4ed6df1','DATASET','1a20258c0e994dd4a72d0a6fa74aa83f','RUN','c5c43b2044004acdb011af2530ab5780',0);
INSERT INTO "inputs" VALUES('8a69e7ff32a24dc49ad0a78fba338d26','DATASET','1a20258c0e994dd4a72d0a6fa74aa83f','RUN','94df612c35124aba985de04f3d0ef395',0);
INSERT INTO "inputs" VALUES('f18523cf7b3a4923b76470e89627e939','DATASET','1a20258c0e994dd4a72d0a6fa74aa83f','RUN','c106f20da5354022b8e0747e8dd80592',0);
CREATE TABLE issues (
	issue_id VARCHAR(36) NOT NULL, 
	experiment_id INTEGER NOT NULL, 
	name VARCHAR(250) NOT NULL, 
	description TEXT NOT NULL, 
	status VARCHAR(50) NOT NULL, 
	severity VARCHAR(50), 
	root_causes TEXT, 
	source_run_id VARCHAR(32), 
	categories TEXT, 
	created_timestamp BIGINT NOT NULL, 
	last_updated_timestamp BIGINT NOT NULL, 
	created_by VARCHAR(255), 
	CONSTRAINT issues_pk PRIMARY KEY (issue_id), 
	CONSTRAINT fk_issues_experiment_id FOREIGN KEY(experiment_id) REFERENCES experiments (experiment_id) ON DELETE CASCADE, 
	CONSTRAINT fk_issues_source_run_id FOREIGN KEY(source_run_id) REFERENCES runs (run_uuid) ON DELETE SET NULL
);
CREATE TABLE job_locks (
	lock_key VARCHAR(255) NOT NULL, 
	job_id VARCHAR(36) NOT NULL, 
	acquired_at BIGINT NOT NULL, 
	CONSTRAINT job_locks_pk PRIMARY KEY (lock_key), 
	CONSTRAINT fk_job_locks_job_id FOREIGN KEY(job_id) REFERENCES jobs (id) ON DELETE CASCADE
);
CREATE TABLE "jobs" (
	id VARCHAR(36) NOT NULL, 
	creation_time BIGINT NOT NULL, 
	job_name VARCHAR(500) NOT NULL, 
	params TEXT NOT NULL, 
	timeout FLOAT, 
	status INTEGER NOT NULL, 
	result TEXT, 
	retry_count INTEGER NOT NULL, 
	last_update_time BIGINT NOT NULL, 
	workspace VARCHAR(63) DEFAULT 'default' NOT NULL, status_details JSON, creator VARCHAR(255), executor_backend VARCHAR(255), lease_expires_at BIGINT, status_message TEXT, progress JSON, progress_updated_at BIGINT, token_hash VARCHAR(64), scoped_permissions JSON, next_attempt_at BIGINT, 
	CONSTRAINT jobs_pk PRIMARY KEY (id)
);
CREATE TABLE label_schemas (
	schema_id VARCHAR(36) NOT NULL, 
	experiment_id INTEGER NOT NULL, 
	name VARCHAR(250) NOT NULL, 
	type VARCHAR(16) NOT NULL, 
	instruction TEXT, 
	enable_comment BOOLEAN DEFAULT '0' NOT NULL, 
	input_type VARCHAR(32) NOT NULL, 
	input_config TEXT NOT NULL, 
	created_by VARCHAR(255), 
	created_time BIGINT NOT NULL, 
	last_update_time BIGINT NOT NULL, 
	is_default BOOLEAN DEFAULT 0 NOT NULL, 
	CONSTRAINT label_schemas_pk PRIMARY KEY (schema_id), 
	CONSTRAINT fk_label_schemas_experiment_id FOREIGN KEY(experiment_id) REFERENCES experiments (experiment_id) ON DELETE CASCADE, 
	CONSTRAINT uq_label_schemas_exp_name UNIQUE (experiment_id, name)
);
CREATE TABLE "latest_metrics" (
	"key" VARCHAR(250) NOT NULL, 
	value FLOAT NOT NULL, 
	timestamp BIGINT, 
	step BIGINT NOT NULL, 
	is_nan BOOLEAN NOT NULL, 
	run_uuid VARCHAR(32) NOT NULL, 
	CONSTRAINT latest_metric_pk PRIMARY KEY ("key", run_uuid), 
	FOREIGN KEY(run_uuid) REFERENCES runs (run_uuid), 
	CHECK (is_nan IN (0, 1))
);
INSERT INTO "latest_metrics" VALUES('galaxies',10.0,1795687999349,0,0,'c5c43b2044004acdb011af2530ab5780');
INSERT INTO "latest_metrics" VALUES('accepted',9.0,1795687999349,0,0,'c5c43b2044004acdb011af2530ab5780');
INSERT INTO "latest_metrics" VALUES('rejected',1.0,1795687999349,0,0,'c5c43b2044004acdb011af2530ab5780');
INSERT INTO "latest_metrics" VALUES('lr',0.0025,1795688015776,1,0,'94df612c35124aba985de04f3d0ef395');
INSERT INTO "latest_metrics" VALUES('train_loss',1.14136013984680175783e+01,1795688015776,1,0,'94df612c35124aba985de04f3d0ef395');
INSERT INTO "latest_metrics" VALUES('validation_loss',1.09469639460245762309e+01,1795688015776,1,0,'94df612c35124aba985de04f3d0ef395');
INSERT INTO "latest_metrics" VALUES('validation_nll',3.26003066698710108894e+00,1795688015776,1,0,'94df612c35124aba985de04f3d0ef395');
INSERT INTO "latest_metrics" VALUES('validation_chi2',83.8842601776123,1795688015776,1,0,'94df612c35124aba985de04f3d0ef395');
INSERT INTO "latest_metrics" VALUES('validation_mae/Heta-3836',1.1697749793529510498e-01,1795688015776,1,0,'94df612c35124aba985de04f3d0ef395');
INSERT INTO "latest_metrics" VALUES('validation_mae/NeIII-3869',9.92278953393300328089e-02,1795688015776,1,0,'94df612c35124aba985de04f3d0ef395');
INSERT INTO "latest_metrics" VALUES('validation_mae/Hzet-3890',1.36935542027155549016e-01,1795688015776,1,0,'94df612c35124aba985de04f3d0ef395');
INSERT INTO "latest_metrics" VALUES('validation_mae/NeIII-3968',1.34716061254342406305e-01,1795688015776,1,0,'94df612c35124aba985de04f3d0ef395');
INSERT INTO "latest_metrics" VALUES('validation_mae/Heps-3971',1.38179222742716462102e-01,1795688015776,1,0,'94df612c35124aba985de04f3d0ef395');
INSERT INTO "latest_metrics" VALUES('validation_mae/Hdel-4102',1.66661150753498077392e-01,1795688015776,1,0,'94df612c35124aba985de04f3d0ef395');
INSERT INTO "latest_metrics" VALUES('validation_mae/Hgam-4341',2.03637165327866881403e-01,1795688015776,1,0,'94df612c35124aba985de04f3d0ef395');
INSERT INTO "latest_metrics" VALUES('validation_mae/HeII-4687',8.64720145861307826207e-02,1795688015776,1,0,'94df612c35124aba985de04f3d0ef395');
INSERT INTO "latest_metrics" VALUES('validation_mae/Hb-4862',2.31880068778991699218e-01,1795688015776,1,0,'94df612c35124aba985de04f3d0ef395');
INSERT INTO "latest_metrics" VALUES('validation_mae/OIII-4960',2.83911491433779417103e-01,1795688015776,1,0,'94df612c35124aba985de04f3d0ef395');
INSERT INTO "latest_metrics" VALUES('validation_mae/OIII-5008',6.19510124127070072042e-01,1795688015776,1,0,'94df612c35124aba985de04f3d0ef395');
INSERT INTO "latest_metrics" VALUES('validation_mae/HeI-5877',1.14033125340938568115e-01,1795688015776,1,0,'94df612c35124aba985de04f3d0ef395');
INSERT INTO "latest_metrics" VALUES('validation_mae/OI-6302',8.97041360537211146519e-02,1795688015776,1,0,'94df612c35124aba985de04f3d0ef395');
INSERT INTO "latest_metrics" VALUES('validation_mae/OI-6365',8.59362905224164280726e-02,1795688015776,1,0,'94df612c35124aba985de04f3d0ef395');
INSERT INTO "latest_metrics" VALUES('validation_mae/NII-6549',2.67661044994990049428e-01,1795688015776,1,0,'94df612c35124aba985de04f3d0ef395');
INSERT INTO "latest_metrics" VALUES('validation_mae/Ha-6564',3.57156664133071899414e-01,1795688015776,1,0,'94df612c35124aba985de04f3d0ef395');
INSERT INTO "latest_metrics" VALUES('validation_mae/NII-6585',3.34112887581189454966e-01,1795688015776,1,0,'94df612c35124aba985de04f3d0ef395');
INSERT INTO "latest_metrics" VALUES('validation_mae/SII-6718',2.2078701357046762177e-01,1795688015776,1,0,'94df612c35124aba985de04f3d0ef395');
INSERT INTO "latest_metrics" VALUES('validation_mae/SII-6732',1.97359899679819733586e-01,1795688015776,1,0,'94df612c35124aba985de04f3d0ef395');
INSERT INTO "latest_metrics" VALUES('best_loss',1.09469639460245762309e+01,1795688015776,1,0,'94df612c35124aba985de04f3d0ef395');
INSERT INTO "latest_metrics" VALUES('best_epoch',1.0,1795688015776,1,0,'94df612c35124aba985de04f3d0ef395');
INSERT INTO "latest_metrics" VALUES('best_nll',3.26003066698710108894e+00,1795688015776,1,0,'94df612c35124aba985de04f3d0ef395');
INSERT INTO "latest_metrics" VALUES('system/cpu_utilization_percentage',0.0,1795688017716,0,0,'94df612c35124aba985de04f3d0ef395');
INSERT INTO "latest_metrics" VALUES('system/system_memory_usage_megabytes',3171.8,1795688017716,0,0,'94df612c35124aba985de04f3d0ef395');
INSERT INTO "latest_metrics" VALUES('system/system_memory_usage_percentage',12.5,1795688017716,0,0,'94df612c35124aba985de04f3d0ef395');
INSERT INTO "latest_metrics" VALUES('system/disk_usage_percentage',27.4,1795688017716,0,0,'94df612c35124aba985de04f3d0ef395');
INSERT INTO "latest_metrics" VALUES('system/disk_usage_megabytes',29812.8,1795688017716,0,0,'94df612c35124aba985de04f3d0ef395');
INSERT INTO "latest_metrics" VALUES('system/disk_available_megabytes',79131.5,1795688017716,0,0,'94df612c35124aba985de04f3d0ef395');
INSERT INTO "latest_metrics" VALUES('system/network_receive_megabytes',0.0,1795688017716,0,0,'94df612c35124aba985de04f3d0ef395');
INSERT INTO "latest_metrics" VALUES('system/network_transmit_megabytes',0.0,1795688017716,0,0,'94df612c35124aba985de04f3d0ef395');
INSERT INTO "latest_metrics" VALUES('fold_0/lr',0.0025,1795688022747,1,0,'94df612c35124aba985de04f3d0ef395');
INSERT INTO "latest_metrics" VALUES('fold_0/train_loss',9.390655517578125e+00,1795688022747,1,0,'94df612c35124aba985de04f3d0ef395');
INSERT INTO "latest_metrics" VALUES('fold_0/validation_loss',1.895963287353515625e+01,1795688022747,1,0,'94df612c35124aba985de04f3d0ef395');
INSERT INTO "latest_metrics" VALUES('fold_0/validation_nll',4.71951015790303518571e+00,1795688022747,1,0,'94df612c35124aba985de04f3d0ef395');
INSERT INTO "latest_metrics" VALUES('fold_0/validation_chi2',1.60424034118652343748e+02,1795688022747,1,0,'94df612c35124aba985de04f3d0ef395');
INSERT INTO "latest_metrics" VALUES('fold_0/validation_mae/Heta-3836',2.5873202582200366395e-01,1795688022747,1,0,'94df612c35124aba985de04f3d0ef395');
INSERT INTO "latest_metrics" VALUES('fold_0/validation_mae/NeIII-3869',2.53874835868676484995e-01,1795688022747,1,0,'94df612c35124aba985de04f3d0ef395');
INSERT INTO "latest_metrics" VALUES('fold_0/validation_mae/Hzet-3890',2.30158651868502289739e-01,1795688022747,1,0,'94df612c35124aba985de04f3d0ef395');
INSERT INTO "latest_metrics" VALUES('fold_0/validation_mae/NeIII-3968',5.20142177740732791768e-01,1795688022747,1,0,'94df612c35124aba985de04f3d0ef395');
INSERT INTO "latest_metrics" VALUES('fold_0/validation_mae/Heps-3971',5.54824034372965457784e-01,1795688022747,1,0,'94df612c35124aba985de04f3d0ef395');
INSERT INTO "latest_metrics" VALUES('fold_0/validation_mae/Hdel-4102',3.04451967279116331166e-01,1795688022747,1,0,'94df612c35124aba985de04f3d0ef395');
INSERT INTO "latest_metrics" VALUES('fold_0/validation_mae/Hgam-4341',4.78257348140080751353e-01,1795688022747,1,0,'94df612c35124aba985de04f3d0ef395');
INSERT INTO "latest_metrics" VALUES('fold_0/validation_mae/HeII-4687',9.861318270365397598e-02,1795688022747,1,0,'94df612c35124aba985de04f3d0ef395');
INSERT INTO "latest_metrics" VALUES('fold_0/validation_mae/Hb-4862',0.787883589665095,1795688022747,1,0,'94df612c35124aba985de04f3d0ef395');
INSERT INTO "latest_metrics" VALUES('fold_0/validation_mae/OIII-4960',3.37619202832380949086e-01,1795688022747,1,0,'94df612c35124aba985de04f3d0ef395');
INSERT INTO "latest_metrics" VALUES('fold_0/validation_mae/OIII-5008',0.654490460952123,1795688022747,1,0,'94df612c35124aba985de04f3d0ef395');
INSERT INTO "latest_metrics" VALUES('fold_0/validation_mae/HeI-5877',2.93175376951694488525e-01,1795688022747,1,0,'94df612c35124aba985de04f3d0ef395');
INSERT INTO "latest_metrics" VALUES('fold_0/validation_mae/OI-6302',7.29851077000300135777e-02,1795688022747,1,0,'94df612c35124aba985de04f3d0ef395');
INSERT INTO "latest_metrics" VALUES('fold_0/validation_mae/OI-6365',1.65359417597452790227e-01,1795688022747,1,0,'94df612c35124aba985de04f3d0ef395');
INSERT INTO "latest_metrics" VALUES('fold_0/validation_mae/NII-6549',2.26982926328976958307e-01,1795688022747,1,0,'94df612c35124aba985de04f3d0ef395');
INSERT INTO "latest_metrics" VALUES('fold_0/validation_mae/Ha-6564',0.827062169710795,1795688022747,1,0,'94df612c35124aba985de04f3d0ef395');
INSERT INTO "latest_metrics" VALUES('fold_0/validation_mae/NII-6585',4.23126965761184692382e-01,1795688022747,1,0,'94df612c35124aba985de04f3d0ef395');
INSERT INTO "latest_metrics" VALUES('fold_0/validation_mae/SII-6718',2.20610663294792175292e-01,1795688022747,1,0,'94df612c35124aba985de04f3d0ef395');
INSERT INTO "latest_metrics" VALUES('fold_0/validation_mae/SII-6732',1.40739386280377715143e-01,1795688022747,1,0,'94df612c35124aba985de04f3d0ef395');
INSERT INTO "latest_metrics" VALUES('fold_0/best_loss',1.895963287353515625e+01,1795688022747,1,0,'94df612c35124aba985de04f3d0ef395');
INSERT INTO "latest_metrics" VALUES('fold_0/best_epoch',1.0,1795688022747,1,0,'94df612c35124aba985de04f3d0ef395');
INSERT INTO "latest_metrics" VALUES('fold_0/best_nll',4.71951015790303518571e+00,1795688022747,1,0,'94df612c35124aba985de04f3d0ef395');
INSERT INTO "latest_metrics" VALUES('fold_1/lr',0.0025,1795688023658,1,0,'94df612c35124aba985de04f3d0ef395');
INSERT INTO "latest_metrics" VALUES('fold_1/train_loss',5.94733059406280517578e+00,1795688023658,1,0,'94df612c35124aba985de04f3d0ef395');
INSERT INTO "latest_metrics" VALUES('fold_1/validation_loss',1.34758315086364746095e+01,1795688023658,1,0,'94df612c35124aba985de04f3d0ef395');
INSERT INTO "latest_metrics" VALUES('fold_1/validation_nll',3.82968839009602879386e+00,1795688023658,1,0,'94df612c35124aba985de04f3d0ef395');
INSERT INTO "latest_metrics" VALUES('fold_1/validation_chi2',1.06191305160522460934e+02,1795688023658,1,0,'94df612c35124aba985de04f3d0ef395');
INSERT INTO "latest_metrics" VALUES('fold_1/validation_mae/Heta-3836',1.73818444212277739557e-01,1795688023658,1,0,'94df612c35124aba985de04f3d0ef395');
INSERT INTO "latest_metrics" VALUES('fold_1/validation_mae/NeIII-3869',1.16330983738104506985e-01,1795688023658,1,0,'94df612c35124aba985de04f3d0ef395');
INSERT INTO "latest_metrics" VALUES('fold_1/validation_mae/Hzet-3890',1.72096083561579377141e-01,1795688023658,1,0,'94df612c35124aba985de04f3d0ef395');
INSERT INTO "latest_metrics" VALUES('fold_1/validation_mae/NeIII-3968',3.64739522337913513183e-01,1795688023658,1,0,'94df612c35124aba985de04f3d0ef395');
INSERT INTO "latest_metrics" VALUES('fold_1/validation_mae/Heps-3971',3.80226815740267454213e-01,1795688023658,1,0,'94df612c35124aba985de04f3d0ef395');
INSERT INTO "latest_metrics" VALUES('fold_1/validation_mae/Hdel-4102',1.92971453070640563964e-01,1795688023658,1,0,'94df612c35124aba985de04f3d0ef395');
INSERT INTO "latest_metrics" VALUES('fold_1/validation_mae/Hgam-4341',0.29510531326135,1795688023658,1,0,'94df612c35124aba985de04f3d0ef395');
INSERT INTO "latest_metrics" VALUES('fold_1/validation_mae/HeII-4687',1.14303496976693466646e-01,1795688023658,1,0,'94df612c35124aba985de04f3d0ef395');
INSERT INTO "latest_metrics" VALUES('fold_1/validation_mae/Hb-4862',4.14449582497278867787e-01,1795688023658,1,0,'94df612c35124aba985de04f3d0ef395');
INSERT INTO "latest_metrics" VALUES('fold_1/validation_mae/OIII-4960',3.35289686918258666992e-01,1795688023658,1,0,'94df612c35124aba985de04f3d0ef395');
INSERT INTO "latest_metrics" VALUES('fold_1/validation_mae/OIII-5008',6.9046332438786828245e-01,1795688023658,1,0,'94df612c35124aba985de04f3d0ef395');
INSERT INTO "latest_metrics" VALUES('fold_1/validation_mae/HeI-5877',1.72617184619108826604e-01,1795688023658,1,0,'94df612c35124aba985de04f3d0ef395');
INSERT INTO "latest_metrics" VALUES('fold_1/validation_mae/OI-6302',9.18066911399364471435e-02,1795688023658,1,0,'94df612c35124aba985de04f3d0ef395');
INSERT INTO "latest_metrics" VALUES('fold_1/validation_mae/OI-6365',1.06517126162846878512e-01,1795688023658,1,0,'94df612c35124aba985de04f3d0ef395');
INSERT INTO "latest_metrics" VALUES('fold_1/validation_mae/NII-6549',1.58016368746757507324e-01,1795688023658,1,0,'94df612c35124aba985de04f3d0ef395');
INSERT INTO "latest_metrics" VALUES('fold_1/validation_mae/Ha-6564',4.42352135976155580454e-01,1795688023658,1,0,'94df612c35124aba985de04f3d0ef395');
INSERT INTO "latest_metrics" VALUES('fold_1/validation_mae/NII-6585',3.00006374716758728027e-01,1795688023658,1,0,'94df612c35124aba985de04f3d0ef395');
INSERT INTO "latest_metrics" VALUES('fold_1/validation_mae/SII-6718',1.16001293063163757324e-01,1795688023658,1,0,'94df612c35124aba985de04f3d0ef395');
INSERT INTO "latest_metrics" VALUES('fold_1/validation_mae/SII-6732',1.33339598774909973144e-01,1795688023658,1,0,'94df612c35124aba985de04f3d0ef395');
INSERT INTO "latest_metrics" VALUES('fold_1/best_loss',1.34758315086364746095e+01,1795688023658,1,0,'94df612c35124aba985de04f3d0ef395');
INSERT INTO "latest_metrics" VALUES('fold_1/best_epoch',1.0,1795688023658,1,0,'94df612c35124aba985de04f3d0ef395');
INSERT INTO "latest_metrics" VALUES('fold_1/best_nll',3.82968839009602879386e+00,1795688023658,1,0,'94df612c35124aba985de04f3d0ef395');
CREATE TABLE logged_model_metrics (
	model_id VARCHAR(36) NOT NULL, 
	metric_name VARCHAR(500) NOT NULL, 
	metric_timestamp_ms BIGINT NOT NULL, 
	metric_step BIGINT NOT NULL, 
	metric_value FLOAT, 
	experiment_id INTEGER NOT NULL, 
	run_id VARCHAR(32) NOT NULL, 
	dataset_uuid VARCHAR(36), 
	dataset_name VARCHAR(500), 
	dataset_digest VARCHAR(36), 
	CONSTRAINT logged_model_metrics_pk PRIMARY KEY (model_id, metric_name, metric_timestamp_ms, metric_step, run_id), 
	CONSTRAINT fk_logged_model_metrics_experiment_id FOREIGN KEY(experiment_id) REFERENCES experiments (experiment_id), 
	CONSTRAINT fk_logged_model_metrics_model_id FOREIGN KEY(model_id) REFERENCES logged_models (model_id) ON DELETE CASCADE, 
	CONSTRAINT fk_logged_model_metrics_run_id FOREIGN KEY(run_id) REFERENCES runs (run_uuid) ON DELETE CASCADE
);
CREATE TABLE logged_model_params (
	model_id VARCHAR(36) NOT NULL, 
	experiment_id INTEGER NOT NULL, 
	param_key VARCHAR(255) NOT NULL, 
	param_value TEXT NOT NULL, 
	CONSTRAINT logged_model_params_pk PRIMARY KEY (model_id, param_key), 
	CONSTRAINT fk_logged_model_params_experiment_id FOREIGN KEY(experiment_id) REFERENCES experiments (experiment_id), 
	CONSTRAINT fk_logged_model_params_model_id FOREIGN KEY(model_id) REFERENCES logged_models (model_id) ON DELETE CASCADE
);
CREATE TABLE logged_model_tags (
	model_id VARCHAR(36) NOT NULL, 
	experiment_id INTEGER NOT NULL, 
	tag_key VARCHAR(255) NOT NULL, 
	tag_value TEXT NOT NULL, 
	CONSTRAINT logged_model_tags_pk PRIMARY KEY (model_id, tag_key), 
	CONSTRAINT fk_logged_model_tags_experiment_id FOREIGN KEY(experiment_id) REFERENCES experiments (experiment_id), 
	CONSTRAINT fk_logged_model_tags_model_id FOREIGN KEY(model_id) REFERENCES logged_models (model_id) ON DELETE CASCADE
);
CREATE TABLE logged_models (
	model_id VARCHAR(36) NOT NULL, 
	experiment_id INTEGER NOT NULL, 
	name VARCHAR(500) NOT NULL, 
	artifact_location VARCHAR(1000) NOT NULL, 
	creation_timestamp_ms BIGINT NOT NULL, 
	last_updated_timestamp_ms BIGINT NOT NULL, 
	status INTEGER NOT NULL, 
	lifecycle_stage VARCHAR(32), 
	model_type VARCHAR(500), 
	source_run_id VARCHAR(32), 
	status_message VARCHAR(1000), 
	CONSTRAINT logged_models_pk PRIMARY KEY (model_id), 
	CONSTRAINT logged_models_lifecycle_stage_check CHECK (lifecycle_stage IN ('active', 'deleted')), 
	CONSTRAINT fk_logged_models_experiment_id FOREIGN KEY(experiment_id) REFERENCES experiments (experiment_id) ON DELETE CASCADE
);
CREATE TABLE mcp_access_endpoints (
	id VARCHAR(36) NOT NULL, 
	workspace VARCHAR(63) DEFAULT 'default' NOT NULL, 
	server_name VARCHAR(256) NOT NULL, 
	server_version VARCHAR(128), 
	server_alias VARCHAR(256), 
	url VARCHAR(2048) NOT NULL, 
	transport_type VARCHAR(32) DEFAULT 'streamable-http' NOT NULL, 
	created_by VARCHAR(256), 
	last_updated_by VARCHAR(256), 
	created_at BIGINT NOT NULL, 
	last_updated_at BIGINT NOT NULL, 
	CONSTRAINT mcp_access_endpoints_pk PRIMARY KEY (id), 
	CONSTRAINT mcp_access_endpoints_server_fkey FOREIGN KEY(workspace, server_name) REFERENCES mcp_servers (workspace, name) ON DELETE CASCADE ON UPDATE CASCADE
);
CREATE TABLE mcp_server_aliases (
	workspace VARCHAR(63) DEFAULT 'default' NOT NULL, 
	name VARCHAR(256) NOT NULL, 
	alias VARCHAR(256) NOT NULL, 
	version VARCHAR(128) NOT NULL, 
	CONSTRAINT mcp_server_aliases_pk PRIMARY KEY (workspace, name, alias), 
	CONSTRAINT mcp_server_aliases_server_fkey FOREIGN KEY(workspace, name) REFERENCES mcp_servers (workspace, name) ON DELETE CASCADE ON UPDATE CASCADE
);
CREATE TABLE mcp_server_tags (
	workspace VARCHAR(63) DEFAULT 'default' NOT NULL, 
	name VARCHAR(256) NOT NULL, 
	"key" VARCHAR(250) NOT NULL, 
	value VARCHAR(5000), 
	CONSTRAINT mcp_server_tags_pk PRIMARY KEY (workspace, name, "key"), 
	CONSTRAINT mcp_server_tags_server_fkey FOREIGN KEY(workspace, name) REFERENCES mcp_servers (workspace, name) ON DELETE CASCADE ON UPDATE CASCADE
);
CREATE TABLE mcp_server_version_tags (
	workspace VARCHAR(63) DEFAULT 'default' NOT NULL, 
	name VARCHAR(256) NOT NULL, 
	version VARCHAR(128) NOT NULL, 
	"key" VARCHAR(250) NOT NULL, 
	value VARCHAR(5000), 
	CONSTRAINT mcp_server_version_tags_pk PRIMARY KEY (workspace, name, version, "key"), 
	CONSTRAINT mcp_server_version_tags_version_fkey FOREIGN KEY(workspace, name, version) REFERENCES mcp_server_versions (workspace, name, version) ON DELETE CASCADE ON UPDATE CASCADE
);
CREATE TABLE mcp_server_versions (
	workspace VARCHAR(63) DEFAULT 'default' NOT NULL, 
	name VARCHAR(256) NOT NULL, 
	version VARCHAR(128) NOT NULL, 
	version_major INTEGER NOT NULL, 
	version_minor INTEGER NOT NULL, 
	version_patch INTEGER NOT NULL, 
	version_prerelease_sort_key VARCHAR(512) NOT NULL, 
	server_json JSON NOT NULL, 
	status VARCHAR(20) DEFAULT 'draft' NOT NULL, 
	tools JSON, 
	source VARCHAR(512), 
	connect_options JSON, 
	created_by VARCHAR(256), 
	last_updated_by VARCHAR(256), 
	created_at BIGINT NOT NULL, 
	last_updated_at BIGINT NOT NULL, 
	CONSTRAINT mcp_server_versions_pk PRIMARY KEY (workspace, name, version), 
	CONSTRAINT mcp_server_versions_server_fkey FOREIGN KEY(workspace, name) REFERENCES mcp_servers (workspace, name) ON DELETE CASCADE ON UPDATE CASCADE
);
CREATE TABLE mcp_servers (
	workspace VARCHAR(63) DEFAULT 'default' NOT NULL, 
	name VARCHAR(256) NOT NULL, 
	display_name VARCHAR(256), 
	description TEXT, 
	icons JSON, 
	created_by VARCHAR(256), 
	last_updated_by VARCHAR(256), 
	created_at BIGINT NOT NULL, 
	last_updated_at BIGINT NOT NULL, 
	CONSTRAINT mcp_servers_pk PRIMARY KEY (workspace, name)
);
CREATE TABLE "metrics" (
	"key" VARCHAR(250) NOT NULL, 
	value FLOAT NOT NULL, 
	timestamp BIGINT NOT NULL, 
	run_uuid VARCHAR(32) NOT NULL, 
	step BIGINT DEFAULT '0' NOT NULL, 
	is_nan BOOLEAN DEFAULT '0' NOT NULL, 
	CONSTRAINT metric_pk PRIMARY KEY ("key", timestamp, step, run_uuid, value, is_nan), 
	FOREIGN KEY(run_uuid) REFERENCES runs (run_uuid), 
	CHECK (is_nan IN (0, 1))
);
INSERT INTO "metrics" VALUES('galaxies',10.0,1795687999349,'c5c43b2044004acdb011af2530ab5780',0,0);
INSERT INTO "metrics" VALUES('accepted',9.0,1795687999349,'c5c43b2044004acdb011af2530ab5780',0,0);
INSERT INTO "metrics" VALUES('rejected',1.0,1795687999349,'c5c43b2044004acdb011af2530ab5780',0,0);
INSERT INTO "metrics" VALUES('lr',0.005,1795688010599,'94df612c35124aba985de04f3d0ef395',0,0);
INSERT INTO "metrics" VALUES('train_loss',9.88996586799621546504e+00,1795688010599,'94df612c35124aba985de04f3d0ef395',0,0);
INSERT INTO "metrics" VALUES('validation_loss',1.15448007583618164064e+01,1795688010599,'94df612c35124aba985de04f3d0ef395',0,0);
INSERT INTO "metrics" VALUES('validation_nll',3.35448622703552246093e+00,1795688010599,'94df612c35124aba985de04f3d0ef395',0,0);
INSERT INTO "metrics" VALUES('validation_chi2',9.48188765843709262508e+01,1795688010599,'94df612c35124aba985de04f3d0ef395',0,0);
INSERT INTO "metrics" VALUES('validation_mae/Heta-3836',9.85180338223775181605e-02,1795688010599,'94df612c35124aba985de04f3d0ef395',0,0);
INSERT INTO "metrics" VALUES('validation_mae/NeIII-3869',1.08589654167493179781e-01,1795688010599,'94df612c35124aba985de04f3d0ef395',0,0);
INSERT INTO "metrics" VALUES('validation_mae/Hzet-3890',1.32419300576051085505e-01,1795688010599,'94df612c35124aba985de04f3d0ef395',0,0);
INSERT INTO "metrics" VALUES('validation_mae/NeIII-3968',1.38148002326488494873e-01,1795688010599,'94df612c35124aba985de04f3d0ef395',0,0);
INSERT INTO "metrics" VALUES('validation_mae/Heps-3971',1.46536531547705323186e-01,1795688010599,'94df612c35124aba985de04f3d0ef395',0,0);
INSERT INTO "metrics" VALUES('validation_mae/Hdel-4102',1.66629830996195466008e-01,1795688010599,'94df612c35124aba985de04f3d0ef395',0,0);
INSERT INTO "metrics" VALUES('validation_mae/Hgam-4341',2.04196391006310790094e-01,1795688010599,'94df612c35124aba985de04f3d0ef395',0,0);
INSERT INTO "metrics" VALUES('validation_mae/HeII-4687',8.68549669782320704625e-02,1795688010599,'94df612c35124aba985de04f3d0ef395',0,0);
INSERT INTO "metrics" VALUES('validation_mae/Hb-4862',2.57725720604260744028e-01,1795688010599,'94df612c35124aba985de04f3d0ef395',0,0);
INSERT INTO "metrics" VALUES('validation_mae/OIII-4960',2.90715967615445436411e-01,1795688010599,'94df612c35124aba985de04f3d0ef395',0,0);
INSERT INTO "metrics" VALUES('validation_mae/OIII-5008',6.4244657754898071289e-01,1795688010599,'94df612c35124aba985de04f3d0ef395',0,0);
INSERT INTO "metrics" VALUES('validation_mae/HeI-5877',1.13446315129597977144e-01,1795688010599,'94df612c35124aba985de04f3d0ef395',0,0);
INSERT INTO "metrics" VALUES('validation_mae/OI-6302',8.70338355501492771937e-02,1795688010599,'94df612c35124aba985de04f3d0ef395',0,0);
INSERT INTO "metrics" VALUES('validation_mae/OI-6365',9.86875966191291809082e-02,1795688010599,'94df612c35124aba985de04f3d0ef395',0,0);
INSERT INTO "metrics" VALUES('validation_mae/NII-6549',2.65240733822186769419e-01,1795688010599,'94df612c35124aba985de04f3d0ef395',0,0);
INSERT INTO "metrics" VALUES('validation_mae/Ha-6564',3.98663262526194273061e-01,1795688010599,'94df612c35124aba985de04f3d0ef395',0,0);
INSERT INTO "metrics" VALUES('validation_mae/NII-6585',3.28713387250900268554e-01,1795688010599,'94df612c35124aba985de04f3d0ef395',0,0);
INSERT INTO "metrics" VALUES('validation_mae/SII-6718',2.39033992091814667668e-01,1795688010599,'94df612c35124aba985de04f3d0ef395',0,0);
INSERT INTO "metrics" VALUES('validation_mae/SII-6732',2.08962703744570404973e-01,1795688010599,'94df612c35124aba985de04f3d0ef395',0,0);
INSERT INTO "metrics" VALUES('best_loss',1.15448007583618164064e+01,1795688010599,'94df612c35124aba985de04f3d0ef395',0,0);
INSERT INTO "metrics" VALUES('best_epoch',0.0,1795688010599,'94df612c35124aba985de04f3d0ef395',0,0);
INSERT INTO "metrics" VALUES('best_nll',3.35448622703552246093e+00,1795688010599,'94df612c35124aba985de04f3d0ef395',0,0);
INSERT INTO "metrics" VALUES('lr',0.0025,1795688015776,'94df612c35124aba985de04f3d0ef395',1,0);
INSERT INTO "metrics" VALUES('train_loss',1.14136013984680175783e+01,1795688015776,'94df612c35124aba985de04f3d0ef395',1,0);
INSERT INTO "metrics" VALUES('validation_loss',1.09469639460245762309e+01,1795688015776,'94df612c35124aba985de04f3d0ef395',1,0);
INSERT INTO "metrics" VALUES('validation_nll',3.26003066698710108894e+00,1795688015776,'94df612c35124aba985de04f3d0ef395',1,0);
INSERT INTO "metrics" VALUES('validation_chi2',83.8842601776123,1795688015776,'94df612c35124aba985de04f3d0ef395',1,0);
INSERT INTO "metrics" VALUES('validation_mae/Heta-3836',1.1697749793529510498e-01,1795688015776,'94df612c35124aba985de04f3d0ef395',1,0);
INSERT INTO "metrics" VALUES('validation_mae/NeIII-3869',9.92278953393300328089e-02,1795688015776,'94df612c35124aba985de04f3d0ef395',1,0);
INSERT INTO "metrics" VALUES('validation_mae/Hzet-3890',1.36935542027155549016e-01,1795688015776,'94df612c35124aba985de04f3d0ef395',1,0);
INSERT INTO "metrics" VALUES('validation_mae/NeIII-3968',1.34716061254342406305e-01,1795688015776,'94df612c35124aba985de04f3d0ef395',1,0);
INSERT INTO "metrics" VALUES('validation_mae/Heps-3971',1.38179222742716462102e-01,1795688015776,'94df612c35124aba985de04f3d0ef395',1,0);
INSERT INTO "metrics" VALUES('validation_mae/Hdel-4102',1.66661150753498077392e-01,1795688015776,'94df612c35124aba985de04f3d0ef395',1,0);
INSERT INTO "metrics" VALUES('validation_mae/Hgam-4341',2.03637165327866881403e-01,1795688015776,'94df612c35124aba985de04f3d0ef395',1,0);
INSERT INTO "metrics" VALUES('validation_mae/HeII-4687',8.64720145861307826207e-02,1795688015776,'94df612c35124aba985de04f3d0ef395',1,0);
INSERT INTO "metrics" VALUES('validation_mae/Hb-4862',2.31880068778991699218e-01,1795688015776,'94df612c35124aba985de04f3d0ef395',1,0);
INSERT INTO "metrics" VALUES('validation_mae/OIII-4960',2.83911491433779417103e-01,1795688015776,'94df612c35124aba985de04f3d0ef395',1,0);
INSERT INTO "metrics" VALUES('validation_mae/OIII-5008',6.19510124127070072042e-01,1795688015776,'94df612c35124aba985de04f3d0ef395',1,0);
INSERT INTO "metrics" VALUES('validation_mae/HeI-5877',1.14033125340938568115e-01,1795688015776,'94df612c35124aba985de04f3d0ef395',1,0);
INSERT INTO "metrics" VALUES('validation_mae/OI-6302',8.97041360537211146519e-02,1795688015776,'94df612c35124aba985de04f3d0ef395',1,0);
INSERT INTO "metrics" VALUES('validation_mae/OI-6365',8.59362905224164280726e-02,1795688015776,'94df612c35124aba985de04f3d0ef395',1,0);
INSERT INTO "metrics" VALUES('validation_mae/NII-6549',2.67661044994990049428e-01,1795688015776,'94df612c35124aba985de04f3d0ef395',1,0);
INSERT INTO "metrics" VALUES('validation_mae/Ha-6564',3.57156664133071899414e-01,1795688015776,'94df612c35124aba985de04f3d0ef395',1,0);
INSERT INTO "metrics" VALUES('validation_mae/NII-6585',3.34112887581189454966e-01,1795688015776,'94df612c35124aba985de04f3d0ef395',1,0);
INSERT INTO "metrics" VALUES('validation_mae/SII-6718',2.2078701357046762177e-01,1795688015776,'94df612c35124aba985de04f3d0ef395',1,0);
INSERT INTO "metrics" VALUES('validation_mae/SII-6732',1.97359899679819733586e-01,1795688015776,'94df612c35124aba985de04f3d0ef395',1,0);
INSERT INTO "metrics" VALUES('best_loss',1.09469639460245762309e+01,1795688015776,'94df612c35124aba985de04f3d0ef395',1,0);
INSERT INTO "metrics" VALUES('best_epoch',1.0,1795688015776,'94df612c35124aba985de04f3d0ef395',1,0);
INSERT INTO "metrics" VALUES('best_nll',3.26003066698710108894e+00,1795688015776,'94df612c35124aba985de04f3d0ef395',1,0);
INSERT INTO "metrics" VALUES('system/cpu_utilization_percentage',0.0,1795688017716,'94df612c35124aba985de04f3d0ef395',0,0);
INSERT INTO "metrics" VALUES('system/system_memory_usage_megabytes',3171.8,1795688017716,'94df612c35124aba985de04f3d0ef395',0,0);
INSERT INTO "metrics" VALUES('system/system_memory_usage_percentage',12.5,1795688017716,'94df612c35124aba985de04f3d0ef395',0,0);
INSERT INTO "metrics" VALUES('system/disk_usage_percentage',27.4,1795688017716,'94df612c35124aba985de04f3d0ef395',0,0);
INSERT INTO "metrics" VALUES('system/disk_usage_megabytes',29812.8,1795688017716,'94df612c35124aba985de04f3d0ef395',0,0);
INSERT INTO "metrics" VALUES('system/disk_available_megabytes',79131.5,1795688017716,'94df612c35124aba985de04f3d0ef395',0,0);
INSERT INTO "metrics" VALUES('system/network_receive_megabytes',0.0,1795688017716,'94df612c35124aba985de04f3d0ef395',0,0);
INSERT INTO "metrics" VALUES('system/network_transmit_megabytes',0.0,1795688017716,'94df612c35124aba985de04f3d0ef395',0,0);
INSERT INTO "metrics" VALUES('fold_0/lr',0.005,1795688018427,'94df612c35124aba985de04f3d0ef395',0,0);
INSERT INTO "metrics" VALUES('fold_0/train_loss',5.8326055208841962596e+00,1795688018427,'94df612c35124aba985de04f3d0ef395',0,0);
INSERT INTO "metrics" VALUES('fold_0/validation_loss',1.92111962636311837115e+01,1795688018427,'94df612c35124aba985de04f3d0ef395',0,0);
INSERT INTO "metrics" VALUES('fold_0/validation_nll',4.7689115206400556346e+00,1795688018427,'94df612c35124aba985de04f3d0ef395',0,0);
INSERT INTO "metrics" VALUES('fold_0/validation_chi2',1.63867566426595061561e+02,1795688018427,'94df612c35124aba985de04f3d0ef395',0,0);
INSERT INTO "metrics" VALUES('fold_0/validation_mae/Heta-3836',2.57088373104731260365e-01,1795688018427,'94df612c35124aba985de04f3d0ef395',0,0);
INSERT INTO "metrics" VALUES('fold_0/validation_mae/NeIII-3869',0.252749465405941,1795688018427,'94df612c35124aba985de04f3d0ef395',0,0);
INSERT INTO "metrics" VALUES('fold_0/validation_mae/Hzet-3890',2.25743775566418974909e-01,1795688018427,'94df612c35124aba985de04f3d0ef395',0,0);
INSERT INTO "metrics" VALUES('fold_0/validation_mae/NeIII-3968',5.18980354070663452148e-01,1795688018427,'94df612c35124aba985de04f3d0ef395',0,0);
INSERT INTO "metrics" VALUES('fold_0/validation_mae/Heps-3971',5.52686452865600585937e-01,1795688018427,'94df612c35124aba985de04f3d0ef395',0,0);
INSERT INTO "metrics" VALUES('fold_0/validation_mae/Hdel-4102',3.02206824223200498646e-01,1795688018427,'94df612c35124aba985de04f3d0ef395',0,0);
INSERT INTO "metrics" VALUES('fold_0/validation_mae/Hgam-4341',4.79702452818552671498e-01,1795688018427,'94df612c35124aba985de04f3d0ef395',0,0);
INSERT INTO "metrics" VALUES('fold_0/validation_mae/HeII-4687',0.0967848723133405,1795688018427,'94df612c35124aba985de04f3d0ef395',0,0);
INSERT INTO "metrics" VALUES('fold_0/validation_mae/Hb-4862',7.9106647769610083376e-01,1795688018427,'94df612c35124aba985de04f3d0ef395',0,0);
INSERT INTO "metrics" VALUES('fold_0/validation_mae/OIII-4960',3.43621390561262785023e-01,1795688018427,'94df612c35124aba985de04f3d0ef395',0,0);
INSERT INTO "metrics" VALUES('fold_0/validation_mae/OIII-5008',6.59825950860977172851e-01,1795688018427,'94df612c35124aba985de04f3d0ef395',0,0);
INSERT INTO "metrics" VALUES('fold_0/validation_mae/HeI-5877',2.93512853483359037465e-01,1795688018427,'94df612c35124aba985de04f3d0ef395',0,0);
INSERT INTO "metrics" VALUES('fold_0/validation_mae/OI-6302',7.23954016963640895054e-02,1795688018427,'94df612c35124aba985de04f3d0ef395',0,0);
INSERT INTO "metrics" VALUES('fold_0/validation_mae/OI-6365',1.6420752058426538178e-01,1795688018427,'94df612c35124aba985de04f3d0ef395',0,0);
INSERT INTO "metrics" VALUES('fold_0/validation_mae/NII-6549',2.286929090817769461e-01,1795688018427,'94df612c35124aba985de04f3d0ef395',0,0);
INSERT INTO "metrics" VALUES('fold_0/validation_mae/Ha-6564',0.844621737798055,1795688018427,'94df612c35124aba985de04f3d0ef395',0,0);
INSERT INTO "metrics" VALUES('fold_0/validation_mae/NII-6585',4.23609058062235532826e-01,1795688018427,'94df612c35124aba985de04f3d0ef395',0,0);
INSERT INTO "metrics" VALUES('fold_0/validation_mae/SII-6718',0.232450341184934,1795688018427,'94df612c35124aba985de04f3d0ef395',0,0);
INSERT INTO "metrics" VALUES('fold_0/validation_mae/SII-6732',1.48151628673076629638e-01,1795688018427,'94df612c35124aba985de04f3d0ef395',0,0);
INSERT INTO "metrics" VALUES('fold_0/best_loss',1.92111962636311837115e+01,1795688018427,'94df612c35124aba985de04f3d0ef395',0,0);
INSERT INTO "metrics" VALUES('fold_0/best_epoch',0.0,1795688018427,'94df612c35124aba985de04f3d0ef395',0,0);
INSERT INTO "metrics" VALUES('fold_0/best_nll',4.7689115206400556346e+00,1795688018427,'94df612c35124aba985de04f3d0ef395',0,0);
INSERT INTO "metrics" VALUES('fold_0/lr',0.0025,1795688022747,'94df612c35124aba985de04f3d0ef395',1,0);
INSERT INTO "metrics" VALUES('fold_0/train_loss',9.390655517578125e+00,1795688022747,'94df612c35124aba985de04f3d0ef395',1,0);
INSERT INTO "metrics" VALUES('fold_0/validation_loss',1.895963287353515625e+01,1795688022747,'94df612c35124aba985de04f3d0ef395',1,0);
INSERT INTO "metrics" VALUES('fold_0/validation_nll',4.71951015790303518571e+00,1795688022747,'94df612c35124aba985de04f3d0ef395',1,0);
INSERT INTO "metrics" VALUES('fold_0/validation_chi2',1.60424034118652343748e+02,1795688022747,'94df612c35124aba985de04f3d0ef395',1,0);
INSERT INTO "metrics" VALUES('fold_0/validation_mae/Heta-3836',2.5873202582200366395e-01,1795688022747,'94df612c35124aba985de04f3d0ef395',1,0);
INSERT INTO "metrics" VALUES('fold_0/validation_mae/NeIII-3869',2.53874835868676484995e-01,1795688022747,'94df612c35124aba985de04f3d0ef395',1,0);
INSERT INTO "metrics" VALUES('fold_0/validation_mae/Hzet-3890',2.30158651868502289739e-01,1795688022747,'94df612c35124aba985de04f3d0ef395',1,0);
INSERT INTO "metrics" VALUES('fold_0/validation_mae/NeIII-3968',5.20142177740732791768e-01,1795688022747,'94df612c35124aba985de04f3d0ef395',1,0);
INSERT INTO "metrics" VALUES('fold_0/validation_mae/Heps-3971',5.54824034372965457784e-01,1795688022747,'94df612c35124aba985de04f3d0ef395',1,0);
INSERT INTO "metrics" VALUES('fold_0/validation_mae/Hdel-4102',3.04451967279116331166e-01,1795688022747,'94df612c35124aba985de04f3d0ef395',1,0);
INSERT INTO "metrics" VALUES('fold_0/validation_mae/Hgam-4341',4.78257348140080751353e-01,1795688022747,'94df612c35124aba985de04f3d0ef395',1,0);
INSERT INTO "metrics" VALUES('fold_0/validation_mae/HeII-4687',9.861318270365397598e-02,1795688022747,'94df612c35124aba985de04f3d0ef395',1,0);
INSERT INTO "metrics" VALUES('fold_0/validation_mae/Hb-4862',0.787883589665095,1795688022747,'94df612c35124aba985de04f3d0ef395',1,0);
INSERT INTO "metrics" VALUES('fold_0/validation_mae/OIII-4960',3.37619202832380949086e-01,1795688022747,'94df612c35124aba985de04f3d0ef395',1,0);
INSERT INTO "metrics" VALUES('fold_0/validation_mae/OIII-5008',0.654490460952123,1795688022747,'94df612c35124aba985de04f3d0ef395',1,0);
INSERT INTO "metrics" VALUES('fold_0/validation_mae/HeI-5877',2.93175376951694488525e-01,1795688022747,'94df612c35124aba985de04f3d0ef395',1,0);
INSERT INTO "metrics" VALUES('fold_0/validation_mae/OI-6302',7.29851077000300135777e-02,1795688022747,'94df612c35124aba985de04f3d0ef395',1,0);
INSERT INTO "metrics" VALUES('fold_0/validation_mae/OI-6365',1.65359417597452790227e-01,1795688022747,'94df612c35124aba985de04f3d0ef395',1,0);
INSERT INTO "metrics" VALUES('fold_0/validation_mae/NII-6549',2.26982926328976958307e-01,1795688022747,'94df612c35124aba985de04f3d0ef395',1,0);
INSERT INTO "metrics" VALUES('fold_0/validation_mae/Ha-6564',0.827062169710795,1795688022747,'94df612c35124aba985de04f3d0ef395',1,0);
INSERT INTO "metrics" VALUES('fold_0/validation_mae/NII-6585',4.23126965761184692382e-01,1795688022747,'94df612c35124aba985de04f3d0ef395',1,0);
INSERT INTO "metrics" VALUES('fold_0/validation_mae/SII-6718',2.20610663294792175292e-01,1795688022747,'94df612c35124aba985de04f3d0ef395',1,0);
INSERT INTO "metrics" VALUES('fold_0/validation_mae/SII-6732',1.40739386280377715143e-01,1795688022747,'94df612c35124aba985de04f3d0ef395',1,0);
INSERT INTO "metrics" VALUES('fold_0/best_loss',1.895963287353515625e+01,1795688022747,'94df612c35124aba985de04f3d0ef395',1,0);
INSERT INTO "metrics" VALUES('fold_0/best_epoch',1.0,1795688022747,'94df612c35124aba985de04f3d0ef395',1,0);
INSERT INTO "metrics" VALUES('fold_0/best_nll',4.71951015790303518571e+00,1795688022747,'94df612c35124aba985de04f3d0ef395',1,0);
INSERT INTO "metrics" VALUES('fold_1/lr',0.005,1795688023287,'94df612c35124aba985de04f3d0ef395',0,0);
INSERT INTO "metrics" VALUES('fold_1/train_loss',3.21124148368835449218e+00,1795688023287,'94df612c35124aba985de04f3d0ef395',0,0);
INSERT INTO "metrics" VALUES('fold_1/validation_loss',1.41376530329386387307e+01,1795688023287,'94df612c35124aba985de04f3d0ef395',0,0);
INSERT INTO "metrics" VALUES('fold_1/validation_nll',3.95103565851847315926e+00,1795688023287,'94df612c35124aba985de04f3d0ef395',0,0);
INSERT INTO "metrics" VALUES('fold_1/validation_chi2',1.10831164677937820783e+02,1795688023287,'94df612c35124aba985de04f3d0ef395',0,0);
INSERT INTO "metrics" VALUES('fold_1/validation_mae/Heta-3836',1.90303683280944824218e-01,1795688023287,'94df612c35124aba985de04f3d0ef395',0,0);
INSERT INTO "metrics" VALUES('fold_1/validation_mae/NeIII-3869',1.23848276833693191067e-01,1795688023287,'94df612c35124aba985de04f3d0ef395',0,0);
INSERT INTO "metrics" VALUES('fold_1/validation_mae/Hzet-3890',1.79220373431841523137e-01,1795688023287,'94df612c35124aba985de04f3d0ef395',0,0);
INSERT INTO "metrics" VALUES('fold_1/validation_mae/NeIII-3968',3.95063921809196472167e-01,1795688023287,'94df612c35124aba985de04f3d0ef395',0,0);
INSERT INTO "metrics" VALUES('fold_1/validation_mae/Heps-3971',4.04959966739018739634e-01,1795688023287,'94df612c35124aba985de04f3d0ef395',0,0);
INSERT INTO "metrics" VALUES('fold_1/validation_mae/Hdel-4102',1.99805398782094328913e-01,1795688023287,'94df612c35124aba985de04f3d0ef395',0,0);
INSERT INTO "metrics" VALUES('fold_1/validation_mae/Hgam-4341',3.07102814316749572753e-01,1795688023287,'94df612c35124aba985de04f3d0ef395',0,0);
INSERT INTO "metrics" VALUES('fold_1/validation_mae/HeII-4687',1.21138766407966613769e-01,1795688023287,'94df612c35124aba985de04f3d0ef395',0,0);
INSERT INTO "metrics" VALUES('fold_1/validation_mae/Hb-4862',4.29884662230809511118e-01,1795688023287,'94df612c35124aba985de04f3d0ef395',0,0);
INSERT INTO "metrics" VALUES('fold_1/validation_mae/OIII-4960',3.3603864908218383789e-01,1795688023287,'94df612c35124aba985de04f3d0ef395',0,0);
INSERT INTO "metrics" VALUES('fold_1/validation_mae/OIII-5008',6.8479854861895239626e-01,1795688023287,'94df612c35124aba985de04f3d0ef395',0,0);
INSERT INTO "metrics" VALUES('fold_1/validation_mae/HeI-5877',1.88968415061632782903e-01,1795688023287,'94df612c35124aba985de04f3d0ef395',0,0);
INSERT INTO "metrics" VALUES('fold_1/validation_mae/OI-6302',9.10397954285144805908e-02,1795688023287,'94df612c35124aba985de04f3d0ef395',0,0);
INSERT INTO "metrics" VALUES('fold_1/validation_mae/OI-6365',1.18997231125831604003e-01,1795688023287,'94df612c35124aba985de04f3d0ef395',0,0);
INSERT INTO "metrics" VALUES('fold_1/validation_mae/NII-6549',1.59271637598673493352e-01,1795688023287,'94df612c35124aba985de04f3d0ef395',0,0);
INSERT INTO "metrics" VALUES('fold_1/validation_mae/Ha-6564',4.60409621397654233998e-01,1795688023287,'94df612c35124aba985de04f3d0ef395',0,0);
INSERT INTO "metrics" VALUES('fold_1/validation_mae/NII-6585',3.13230613867441831654e-01,1795688023287,'94df612c35124aba985de04f3d0ef395',0,0);
INSERT INTO "metrics" VALUES('fold_1/validation_mae/SII-6718',1.24807310601075485689e-01,1795688023287,'94df612c35124aba985de04f3d0ef395',0,0);
INSERT INTO "metrics" VALUES('fold_1/validation_mae/SII-6732',1.38521713515122740778e-01,1795688023287,'94df612c35124aba985de04f3d0ef395',0,0);
INSERT INTO "metrics" VALUES('fold_1/best_loss',1.41376530329386387307e+01,1795688023287,'94df612c35124aba985de04f3d0ef395',0,0);
INSERT INTO "metrics" VALUES('fold_1/best_epoch',0.0,1795688023287,'94df612c35124aba985de04f3d0ef395',0,0);
INSERT INTO "metrics" VALUES('fold_1/best_nll',3.95103565851847315926e+00,1795688023287,'94df612c35124aba985de04f3d0ef395',0,0);
INSERT INTO "metrics" VALUES('fold_1/lr',0.0025,1795688023658,'94df612c35124aba985de04f3d0ef395',1,0);
INSERT INTO "metrics" VALUES('fold_1/train_loss',5.94733059406280517578e+00,1795688023658,'94df612c35124aba985de04f3d0ef395',1,0);
INSERT INTO "metrics" VALUES('fold_1/validation_loss',1.34758315086364746095e+01,1795688023658,'94df612c35124aba985de04f3d0ef395',1,0);
INSERT INTO "metrics" VALUES('fold_1/validation_nll',3.82968839009602879386e+00,1795688023658,'94df612c35124aba985de04f3d0ef395',1,0);
INSERT INTO "metrics" VALUES('fold_1/validation_chi2',1.06191305160522460934e+02,1795688023658,'94df612c35124aba985de04f3d0ef395',1,0);
INSERT INTO "metrics" VALUES('fold_1/validation_mae/Heta-3836',1.73818444212277739557e-01,1795688023658,'94df612c35124aba985de04f3d0ef395',1,0);
INSERT INTO "metrics" VALUES('fold_1/validation_mae/NeIII-3869',1.16330983738104506985e-01,1795688023658,'94df612c35124aba985de04f3d0ef395',1,0);
INSERT INTO "metrics" VALUES('fold_1/validation_mae/Hzet-3890',1.72096083561579377141e-01,1795688023658,'94df612c35124aba985de04f3d0ef395',1,0);
INSERT INTO "metrics" VALUES('fold_1/validation_mae/NeIII-3968',3.64739522337913513183e-01,1795688023658,'94df612c35124aba985de04f3d0ef395',1,0);
INSERT INTO "metrics" VALUES('fold_1/validation_mae/Heps-3971',3.80226815740267454213e-01,1795688023658,'94df612c35124aba985de04f3d0ef395',1,0);
INSERT INTO "metrics" VALUES('fold_1/validation_mae/Hdel-4102',1.92971453070640563964e-01,1795688023658,'94df612c35124aba985de04f3d0ef395',1,0);
INSERT INTO "metrics" VALUES('fold_1/validation_mae/Hgam-4341',0.29510531326135,1795688023658,'94df612c35124aba985de04f3d0ef395',1,0);
INSERT INTO "metrics" VALUES('fold_1/validation_mae/HeII-4687',1.14303496976693466646e-01,1795688023658,'94df612c35124aba985de04f3d0ef395',1,0);
INSERT INTO "metrics" VALUES('fold_1/validation_mae/Hb-4862',4.14449582497278867787e-01,1795688023658,'94df612c35124aba985de04f3d0ef395',1,0);
INSERT INTO "metrics" VALUES('fold_1/validation_mae/OIII-4960',3.35289686918258666992e-01,1795688023658,'94df612c35124aba985de04f3d0ef395',1,0);
INSERT INTO "metrics" VALUES('fold_1/validation_mae/OIII-5008',6.9046332438786828245e-01,1795688023658,'94df612c35124aba985de04f3d0ef395',1,0);
INSERT INTO "metrics" VALUES('fold_1/validation_mae/HeI-5877',1.72617184619108826604e-01,1795688023658,'94df612c35124aba985de04f3d0ef395',1,0);
INSERT INTO "metrics" VALUES('fold_1/validation_mae/OI-6302',9.18066911399364471435e-02,1795688023658,'94df612c35124aba985de04f3d0ef395',1,0);
INSERT INTO "metrics" VALUES('fold_1/validation_mae/OI-6365',1.06517126162846878512e-01,1795688023658,'94df612c35124aba985de04f3d0ef395',1,0);
INSERT INTO "metrics" VALUES('fold_1/validation_mae/NII-6549',1.58016368746757507324e-01,1795688023658,'94df612c35124aba985de04f3d0ef395',1,0);
INSERT INTO "metrics" VALUES('fold_1/validation_mae/Ha-6564',4.42352135976155580454e-01,1795688023658,'94df612c35124aba985de04f3d0ef395',1,0);
INSERT INTO "metrics" VALUES('fold_1/validation_mae/NII-6585',3.00006374716758728027e-01,1795688023658,'94df612c35124aba985de04f3d0ef395',1,0);
INSERT INTO "metrics" VALUES('fold_1/validation_mae/SII-6718',1.16001293063163757324e-01,1795688023658,'94df612c35124aba985de04f3d0ef395',1,0);
INSERT INTO "metrics" VALUES('fold_1/validation_mae/SII-6732',1.33339598774909973144e-01,1795688023658,'94df612c35124aba985de04f3d0ef395',1,0);
INSERT INTO "metrics" VALUES('fold_1/best_loss',1.34758315086364746095e+01,1795688023658,'94df612c35124aba985de04f3d0ef395',1,0);
INSERT INTO "metrics" VALUES('fold_1/best_epoch',1.0,1795688023658,'94df612c35124aba985de04f3d0ef395',1,0);
INSERT INTO "metrics" VALUES('fold_1/best_nll',3.82968839009602879386e+00,1795688023658,'94df612c35124aba985de04f3d0ef395',1,0);
CREATE TABLE "model_definitions" (
	model_definition_id VARCHAR(36) NOT NULL, 
	name VARCHAR(255) NOT NULL, 
	secret_id VARCHAR(36), 
	provider VARCHAR(64) NOT NULL, 
	model_name VARCHAR(256) NOT NULL, 
	created_by VARCHAR(255), 
	created_at BIGINT NOT NULL, 
	last_updated_by VARCHAR(255), 
	last_updated_at BIGINT NOT NULL, 
	workspace VARCHAR(63) DEFAULT 'default' NOT NULL, 
	CONSTRAINT model_definitions_pk PRIMARY KEY (model_definition_id), 
	CONSTRAINT fk_model_definitions_secret_id FOREIGN KEY(secret_id) REFERENCES secrets (secret_id) ON DELETE SET NULL, 
	CONSTRAINT uq_model_definitions_workspace_name UNIQUE (workspace, name)
);
CREATE TABLE "model_version_tags" (
	"key" VARCHAR(250) NOT NULL, 
	value TEXT, 
	name VARCHAR(256) NOT NULL, 
	version INTEGER NOT NULL, 
	workspace VARCHAR(63) DEFAULT 'default' NOT NULL, 
	CONSTRAINT model_version_tag_pk PRIMARY KEY (workspace, "key", name, version), 
	CONSTRAINT fk_model_version_tags_model_versions FOREIGN KEY(workspace, name, version) REFERENCES model_versions (workspace, name, version) ON UPDATE CASCADE
);
INSERT INTO "model_version_tags" VALUES('store_identity','d3072053caef286e2e64e0196d0c8c94c679aa58951a09e11e6f608f7dc8649f','cubescout',1,'default');
INSERT INTO "model_version_tags" VALUES('validation_loss','10.946963946024576','cubescout',1,'default');
INSERT INTO "model_version_tags" VALUES('loss_measure','validation student-t of asinh flux','cubescout',1,'default');
INSERT INTO "model_version_tags" VALUES('code_version','0.1.0','cubescout',1,'default');
INSERT INTO "model_version_tags" VALUES('weights_sha256','7d65f9feeecc96c300c991e59a723d2582904ad042c33261e99d56ba1f9de39d','cubescout',1,'default');
INSERT INTO "model_version_tags" VALUES('preset','line','cubescout',1,'default');
INSERT INTO "model_version_tags" VALUES('git','064c8e4c2dc601dac2c5e99a2fe24844650ab8f8','cubescout',1,'default');
INSERT INTO "model_version_tags" VALUES('model_kind','ae','cubescout',1,'default');
INSERT INTO "model_version_tags" VALUES('steps','line','cubescout',1,'default');
INSERT INTO "model_version_tags" VALUES('config_sha256','8f397b547655d00a2be18ac8919b18c4350ae95958eb082841648f5b058b1795','cubescout',1,'default');
INSERT INTO "model_version_tags" VALUES('code_version','0.1.0','cubescout-catalog',1,'default');
INSERT INTO "model_version_tags" VALUES('created_utc','2026-11-26T10:14:10+00:00','cubescout-catalog',1,'default');
INSERT INTO "model_version_tags" VALUES('config.model','None','cubescout-catalog',1,'default');
INSERT INTO "model_version_tags" VALUES('config.rank_by','combined','cubescout-catalog',1,'default');
INSERT INTO "model_version_tags" VALUES('config.fdr','0.1','cubescout-catalog',1,'default');
INSERT INTO "model_version_tags" VALUES('config.calibration_galaxies','512','cubescout-catalog',1,'default');
INSERT INTO "model_version_tags" VALUES('config.psf_fwhm_spaxels','5.0','cubescout-catalog',1,'default');
INSERT INTO "model_version_tags" VALUES('config.spaxel_arcsec','0.5','cubescout-catalog',1,'default');
INSERT INTO "model_version_tags" VALUES('config.num_workers','0','cubescout-catalog',1,'default');
INSERT INTO "model_version_tags" VALUES('config.batch_size','16','cubescout-catalog',1,'default');
INSERT INTO "model_version_tags" VALUES('config.device','cpu','cubescout-catalog',1,'default');
INSERT INTO "model_version_tags" VALUES('config.num_neighbours','5','cubescout-catalog',1,'default');
INSERT INTO "model_version_tags" VALUES('config.umap_neighbours','15','cubescout-catalog',1,'default');
INSERT INTO "model_version_tags" VALUES('config.umap_min_dist','0.1','cubescout-catalog',1,'default');
INSERT INTO "model_version_tags" VALUES('config_sha256','a9a4b7a3870049db5fa2732a8fccf685d2870d4d95834777b71ac12512b9409a','cubescout-catalog',1,'default');
INSERT INTO "model_version_tags" VALUES('seed','0','cubescout-catalog',1,'default');
INSERT INTO "model_version_tags" VALUES('store.identity','d3072053caef286e2e64e0196d0c8c94c679aa58951a09e11e6f608f7dc8649f','cubescout-catalog',1,'default');
INSERT INTO "model_version_tags" VALUES('store.path','line/windows.zarr','cubescout-catalog',1,'default');
INSERT INTO "model_version_tags" VALUES('store.flux_unit','1e-17 erg / (s cm2 Angstrom spaxel)','cubescout-catalog',1,'default');
INSERT INTO "model_version_tags" VALUES('model.reference','models:/cubescout/1','cubescout-catalog',1,'default');
INSERT INTO "model_version_tags" VALUES('model.version','1','cubescout-catalog',1,'default');
INSERT INTO "model_version_tags" VALUES('model.digest','2c87570ff4db53216c79cb81dc5dad9238ed1c19ef98668d163904b72cc65361','cubescout-catalog',1,'default');
INSERT INTO "model_version_tags" VALUES('model.trained_on','d3072053caef286e2e64e0196d0c8c94c679aa58951a09e11e6f608f7dc8649f','cubescout-catalog',1,'default');
INSERT INTO "model_version_tags" VALUES('model.num_left_out','1','cubescout-catalog',1,'default');
INSERT INTO "model_version_tags" VALUES('model.fold_digests','[''b5f52c1d864da7048283b428cfd1179c5f6e694b603148c486e38f1cffce0f50'', ''ffb7c2b599c2d61cd12ce5f3b6a4a4dd0d2240d132b81eb01617c2c670a17a99'']','cubescout-catalog',1,'default');
INSERT INTO "model_version_tags" VALUES('num_galaxies','9','cubescout-catalog',1,'default');
INSERT INTO "model_version_tags" VALUES('rank_by','combined','cubescout-catalog',1,'default');
INSERT INTO "model_version_tags" VALUES('spearman.score.flux','0.33333333333333337','cubescout-catalog',1,'default');
INSERT INTO "model_version_tags" VALUES('spearman.score.snr','0.19999999999999998','cubescout-catalog',1,'default');
INSERT INTO "model_version_tags" VALUES('spearman.combined.flux','0.33333333333333337','cubescout-catalog',1,'default');
INSERT INTO "model_version_tags" VALUES('spearman.combined.snr','0.19999999999999998','cubescout-catalog',1,'default');
INSERT INTO "model_version_tags" VALUES('spearman.unexplained.flux','-0.35','cubescout-catalog',1,'default');
INSERT INTO "model_version_tags" VALUES('spearman.unexplained.snr','-0.11666666666666665','cubescout-catalog',1,'default');
INSERT INTO "model_version_tags" VALUES('spearman.chi2.flux','0.2833333333333333','cubescout-catalog',1,'default');
INSERT INTO "model_version_tags" VALUES('spearman.chi2.snr','0.43333333333333335','cubescout-catalog',1,'default');
INSERT INTO "model_version_tags" VALUES('spearman.relative.flux','-0.48333333333333334','cubescout-catalog',1,'default');
INSERT INTO "model_version_tags" VALUES('spearman.relative.snr','-0.21666666666666667','cubescout-catalog',1,'default');
INSERT INTO "model_version_tags" VALUES('spearman.mae.flux','0.45','cubescout-catalog',1,'default');
INSERT INTO "model_version_tags" VALUES('spearman.mae.snr','0.4666666666666666','cubescout-catalog',1,'default');
INSERT INTO "model_version_tags" VALUES('judges','{}','cubescout-catalog',1,'default');
INSERT INTO "model_version_tags" VALUES('by_redshift','{}','cubescout-catalog',1,'default');
CREATE TABLE "model_versions" (
	name VARCHAR(256) NOT NULL, 
	version INTEGER NOT NULL, 
	creation_time BIGINT, 
	last_updated_time BIGINT, 
	description VARCHAR(5000), 
	user_id VARCHAR(256), 
	current_stage VARCHAR(20), 
	source VARCHAR(500), 
	run_id VARCHAR(32), 
	status VARCHAR(20), 
	status_message VARCHAR(500), 
	run_link VARCHAR(500), 
	storage_location VARCHAR(500), 
	workspace VARCHAR(63) DEFAULT 'default' NOT NULL, 
	CONSTRAINT model_version_pk PRIMARY KEY (workspace, name, version), 
	CONSTRAINT fk_model_versions_registered_models FOREIGN KEY(workspace, name) REFERENCES registered_models (workspace, name) ON UPDATE CASCADE
);
INSERT INTO "model_versions" VALUES('cubescout',1,1795688025224,1795688025224,'# ConvLSTM autoencoder of emission-line windows

Takes windows of 19 lines x 6 samples x 8 x 8 spaxels with inverse variance and mask; gives their reconstruction and 4 latents.
25,345 parameters; per galaxy 0.01 GFLOP forward, 2 MiB kept for the backward pass.

Trained without labels on the window store `d3072053caef286e2e64e0196d0c8c94c679aa58951a09e11e6f608f7dc8649f`.

Use: to rank galaxies of a survey prepared in the same way by what the model cannot explain, and to find their
neighbours. Not for: measuring line fluxes, or windows of other lines, samples or flux units. Galaxies of the training
split are scored by a model that has seen them. Noise, masks and brightness are in its residuals too.

| metric, best epoch | value |
|---|---|
| epoch | 1 |
| lr | 0.0025 |
| train_loss | 11.414 |
| validation_loss | 10.947 |
| validation_nll | 3.26 |
| validation_chi2 | 83.884 |
| best_loss | 10.947 |

| line: mean absolute error, validation | value |
|---|---|
| Heta-3836 | 0.117 |
| NeIII-3869 | 0.09923 |
| Hzet-3890 | 0.1369 |
| NeIII-3968 | 0.1347 |
| Heps-3971 | 0.1382 |
| Hdel-4102 | 0.1667 |
| Hgam-4341 | 0.2036 |
| HeII-4687 | 0.08647 |
| Hb-4862 | 0.2319 |
| OIII-4960 | 0.2839 |
| OIII-5008 | 0.6195 |
| HeI-5877 | 0.114 |
| OI-6302 | 0.0897 |
| OI-6365 | 0.08594 |
| NII-6549 | 0.2677 |
| Ha-6564 | 0.3572 |
| NII-6585 | 0.3341 |
| SII-6718 | 0.2208 |
| SII-6732 | 0.1974 |

| architecture | value |
|---|---|
| num_lines | 19 |
| num_samples | 6 |
| size | 8 |
| latent_dim | 4 |
| variational | False |
| steps | line |
| normalise | asinh |
| step_channels | 2 |
| lstm_channels | 2 |
| decoder_channels | 2 |
| mask_input | True |
| shortcut | True |
| own_step_weights | False |
| bidirectional | False |
| decoder | own |
| gradient_checkpoint_steps | None |
| spaxel_code | 2 |

| training | value |
|---|---|
| epochs | 2 |
| batch_size | 16 |
| optimizer | adamw |
| lr | 0.005 |
| schedule | cosine |
| weight_decay | 0.0 |
| grad_clip | 1.0 |
| loss | student-t |
| error_floor | 0.05 |
| kl_weight | 0.0001 |
| kl_warmup_epochs | 0.0 |
| free_bits | 0.0 |
| bf16 | False |
| num_workers | 0 |
| max_failures | 3 |
| use_gpu | auto |
| shuffle_rows | 256 |
| cache_mib | 1024 |
| folds | 2 |
| left_out | 1 |
',NULL,'None','file://WORKSPACE/mlartifacts/cubescout/94df612c35124aba985de04f3d0ef395/artifacts/model','94df612c35124aba985de04f3d0ef395','READY',NULL,NULL,'file://WORKSPACE/mlartifacts/cubescout/94df612c35124aba985de04f3d0ef395/artifacts/model','default');
INSERT INTO "model_versions" VALUES('cubescout-catalog',1,1795688052304,1795688052304,NULL,NULL,'None','file://WORKSPACE/mlartifacts/cubescout/c106f20da5354022b8e0747e8dd80592/artifacts/catalog','c106f20da5354022b8e0747e8dd80592','READY',NULL,NULL,'file://WORKSPACE/mlartifacts/cubescout/c106f20da5354022b8e0747e8dd80592/artifacts/catalog','default');
CREATE TABLE online_scoring_configs (
	online_scoring_config_id VARCHAR(36) NOT NULL, 
	scorer_id VARCHAR(36) NOT NULL, 
	sample_rate FLOAT NOT NULL, 
	experiment_id INTEGER NOT NULL, 
	filter_string TEXT, 
	CONSTRAINT online_scoring_config_pk PRIMARY KEY (online_scoring_config_id), 
	CONSTRAINT fk_online_scoring_configs_scorer_id FOREIGN KEY(scorer_id) REFERENCES scorers (scorer_id) ON DELETE CASCADE, 
	CONSTRAINT fk_online_scoring_configs_experiment_id FOREIGN KEY(experiment_id) REFERENCES experiments (experiment_id)
);
CREATE TABLE "params" (
	"key" VARCHAR(250) NOT NULL, 
	value VARCHAR(8000) NOT NULL, 
	run_uuid VARCHAR(32) NOT NULL, 
	CONSTRAINT param_pk PRIMARY KEY ("key", run_uuid), 
	FOREIGN KEY(run_uuid) REFERENCES runs (run_uuid)
);
INSERT INTO "params" VALUES('seed','0','c5c43b2044004acdb011af2530ab5780');
INSERT INTO "params" VALUES('survey.reader','manga-logcube','c5c43b2044004acdb011af2530ab5780');
INSERT INTO "params" VALUES('survey.root','FOLDER/survey','c5c43b2044004acdb011af2530ab5780');
INSERT INTO "params" VALUES('survey.table','None','c5c43b2044004acdb011af2530ab5780');
INSERT INTO "params" VALUES('survey.maps_root','None','c5c43b2044004acdb011af2530ab5780');
INSERT INTO "params" VALUES('survey.galaxies','None','c5c43b2044004acdb011af2530ab5780');
INSERT INTO "params" VALUES('survey.z_min','0.0','c5c43b2044004acdb011af2530ab5780');
INSERT INTO "params" VALUES('survey.z_max','0.08','c5c43b2044004acdb011af2530ab5780');
INSERT INTO "params" VALUES('survey.reject_quality','[''CRITICAL'']','c5c43b2044004acdb011af2530ab5780');
INSERT INTO "params" VALUES('survey.mask_bits','None','c5c43b2044004acdb011af2530ab5780');
INSERT INTO "params" VALUES('survey.duplicates','keep','c5c43b2044004acdb011af2530ab5780');
INSERT INTO "params" VALUES('survey.line_map','GFLUX','c5c43b2044004acdb011af2530ab5780');
INSERT INTO "params" VALUES('prepare.windows.lines','paper','c5c43b2044004acdb011af2530ab5780');
INSERT INTO "params" VALUES('prepare.windows.num_samples','6','c5c43b2044004acdb011af2530ab5780');
INSERT INTO "params" VALUES('prepare.windows.step_dex','0.0001','c5c43b2044004acdb011af2530ab5780');
INSERT INTO "params" VALUES('prepare.windows.size','8','c5c43b2044004acdb011af2530ab5780');
INSERT INTO "params" VALUES('prepare.windows.space','crop','c5c43b2044004acdb011af2530ab5780');
INSERT INTO "params" VALUES('prepare.windows.bin_factor','2','c5c43b2044004acdb011af2530ab5780');
INSERT INTO "params" VALUES('prepare.windows.extent_re','4.0','c5c43b2044004acdb011af2530ab5780');
INSERT INTO "params" VALUES('prepare.windows.sampling','conserve','c5c43b2044004acdb011af2530ab5780');
INSERT INTO "params" VALUES('prepare.windows.continuum','sidebands','c5c43b2044004acdb011af2530ab5780');
INSERT INTO "params" VALUES('prepare.windows.min_lines','15','c5c43b2044004acdb011af2530ab5780');
INSERT INTO "params" VALUES('prepare.redshift.check','True','c5c43b2044004acdb011af2530ab5780');
INSERT INTO "params" VALUES('prepare.redshift.limit_kms','200.0','c5c43b2044004acdb011af2530ab5780');
INSERT INTO "params" VALUES('prepare.redshift.min_snr','100.0','c5c43b2044004acdb011af2530ab5780');
INSERT INTO "params" VALUES('prepare.redshift.correct','False','c5c43b2044004acdb011af2530ab5780');
INSERT INTO "params" VALUES('prepare.velocity.correct','False','c5c43b2044004acdb011af2530ab5780');
INSERT INTO "params" VALUES('prepare.velocity.tracer','Ha-6564','c5c43b2044004acdb011af2530ab5780');
INSERT INTO "params" VALUES('prepare.velocity.max_error_kms','30.0','c5c43b2044004acdb011af2530ab5780');
INSERT INTO "params" VALUES('prepare.velocity.max_kms','500.0','c5c43b2044004acdb011af2530ab5780');
INSERT INTO "params" VALUES('prepare.velocity.unknown','systemic','c5c43b2044004acdb011af2530ab5780');
INSERT INTO "params" VALUES('prepare.velocity.missing','reject','c5c43b2044004acdb011af2530ab5780');
INSERT INTO "params" VALUES('prepare.augment.num_views','1','c5c43b2044004acdb011af2530ab5780');
INSERT INTO "params" VALUES('prepare.augment.where','store','c5c43b2044004acdb011af2530ab5780');
INSERT INTO "params" VALUES('prepare.augment.flip','True','c5c43b2044004acdb011af2530ab5780');
INSERT INTO "params" VALUES('prepare.augment.rotate','True','c5c43b2044004acdb011af2530ab5780');
INSERT INTO "params" VALUES('prepare.augment.max_shift','5','c5c43b2044004acdb011af2530ab5780');
INSERT INTO "params" VALUES('prepare.augment.noise','0.3','c5c43b2044004acdb011af2530ab5780');
INSERT INTO "params" VALUES('prepare.augment.max_dimming','0.0','c5c43b2044004acdb011af2530ab5780');
INSERT INTO "params" VALUES('prepare.augment.max_psf_sigma','0.0','c5c43b2044004acdb011af2530ab5780');
INSERT INTO "params" VALUES('prepare.min_covered','0.0','c5c43b2044004acdb011af2530ab5780');
INSERT INTO "params" VALUES('prepare.checksum','crc32','c5c43b2044004acdb011af2530ab5780');
INSERT INTO "params" VALUES('prepare.retry_rejected','False','c5c43b2044004acdb011af2530ab5780');
INSERT INTO "params" VALUES('prepare.store','None','c5c43b2044004acdb011af2530ab5780');
INSERT INTO "params" VALUES('prepare.split.validation','0.3','c5c43b2044004acdb011af2530ab5780');
INSERT INTO "params" VALUES('prepare.split.test','0.15','c5c43b2044004acdb011af2530ab5780');
INSERT INTO "params" VALUES('prepare.galaxies_per_shard','3','c5c43b2044004acdb011af2530ab5780');
INSERT INTO "params" VALUES('prepare.dask.scheduler','None','c5c43b2044004acdb011af2530ab5780');
INSERT INTO "params" VALUES('prepare.dask.num_workers','0','c5c43b2044004acdb011af2530ab5780');
INSERT INTO "params" VALUES('prepare.dask.dashboard_port','0','c5c43b2044004acdb011af2530ab5780');
INSERT INTO "params" VALUES('seed','0','94df612c35124aba985de04f3d0ef395');
INSERT INTO "params" VALUES('prepare.windows.lines','paper','94df612c35124aba985de04f3d0ef395');
INSERT INTO "params" VALUES('prepare.windows.num_samples','6','94df612c35124aba985de04f3d0ef395');
INSERT INTO "params" VALUES('prepare.windows.step_dex','0.0001','94df612c35124aba985de04f3d0ef395');
INSERT INTO "params" VALUES('prepare.windows.size','8','94df612c35124aba985de04f3d0ef395');
INSERT INTO "params" VALUES('prepare.windows.space','crop','94df612c35124aba985de04f3d0ef395');
INSERT INTO "params" VALUES('prepare.windows.bin_factor','2','94df612c35124aba985de04f3d0ef395');
INSERT INTO "params" VALUES('prepare.windows.extent_re','4.0','94df612c35124aba985de04f3d0ef395');
INSERT INTO "params" VALUES('prepare.windows.sampling','conserve','94df612c35124aba985de04f3d0ef395');
INSERT INTO "params" VALUES('prepare.windows.continuum','sidebands','94df612c35124aba985de04f3d0ef395');
INSERT INTO "params" VALUES('prepare.windows.min_lines','15','94df612c35124aba985de04f3d0ef395');
INSERT INTO "params" VALUES('prepare.redshift.check','True','94df612c35124aba985de04f3d0ef395');
INSERT INTO "params" VALUES('prepare.redshift.limit_kms','200.0','94df612c35124aba985de04f3d0ef395');
INSERT INTO "params" VALUES('prepare.redshift.min_snr','100.0','94df612c35124aba985de04f3d0ef395');
INSERT INTO "params" VALUES('prepare.redshift.correct','False','94df612c35124aba985de04f3d0ef395');
INSERT INTO "params" VALUES('prepare.velocity.correct','False','94df612c35124aba985de04f3d0ef395');
INSERT INTO "params" VALUES('prepare.velocity.tracer','Ha-6564','94df612c35124aba985de04f3d0ef395');
INSERT INTO "params" VALUES('prepare.velocity.max_error_kms','30.0','94df612c35124aba985de04f3d0ef395');
INSERT INTO "params" VALUES('prepare.velocity.max_kms','500.0','94df612c35124aba985de04f3d0ef395');
INSERT INTO "params" VALUES('prepare.velocity.unknown','systemic','94df612c35124aba985de04f3d0ef395');
INSERT INTO "params" VALUES('prepare.velocity.missing','reject','94df612c35124aba985de04f3d0ef395');
INSERT INTO "params" VALUES('prepare.augment.num_views','1','94df612c35124aba985de04f3d0ef395');
INSERT INTO "params" VALUES('prepare.augment.where','store','94df612c35124aba985de04f3d0ef395');
INSERT INTO "params" VALUES('prepare.augment.flip','True','94df612c35124aba985de04f3d0ef395');
INSERT INTO "params" VALUES('prepare.augment.rotate','True','94df612c35124aba985de04f3d0ef395');
INSERT INTO "params" VALUES('prepare.augment.max_shift','5','94df612c35124aba985de04f3d0ef395');
INSERT INTO "params" VALUES('prepare.augment.noise','0.3','94df612c35124aba985de04f3d0ef395');
INSERT INTO "params" VALUES('prepare.augment.max_dimming','0.0','94df612c35124aba985de04f3d0ef395');
INSERT INTO "params" VALUES('prepare.augment.max_psf_sigma','0.0','94df612c35124aba985de04f3d0ef395');
INSERT INTO "params" VALUES('prepare.min_covered','0.0','94df612c35124aba985de04f3d0ef395');
INSERT INTO "params" VALUES('prepare.checksum','crc32','94df612c35124aba985de04f3d0ef395');
INSERT INTO "params" VALUES('prepare.retry_rejected','False','94df612c35124aba985de04f3d0ef395');
INSERT INTO "params" VALUES('prepare.store','None','94df612c35124aba985de04f3d0ef395');
INSERT INTO "params" VALUES('prepare.split.validation','0.3','94df612c35124aba985de04f3d0ef395');
INSERT INTO "params" VALUES('prepare.split.test','0.15','94df612c35124aba985de04f3d0ef395');
INSERT INTO "params" VALUES('prepare.galaxies_per_shard','3','94df612c35124aba985de04f3d0ef395');
INSERT INTO "params" VALUES('prepare.dask.scheduler','None','94df612c35124aba985de04f3d0ef395');
INSERT INTO "params" VALUES('prepare.dask.num_workers','0','94df612c35124aba985de04f3d0ef395');
INSERT INTO "params" VALUES('prepare.dask.dashboard_port','0','94df612c35124aba985de04f3d0ef395');
INSERT INTO "params" VALUES('tracking.uri','None','94df612c35124aba985de04f3d0ef395');
INSERT INTO "params" VALUES('tracking.experiment','cubescout','94df612c35124aba985de04f3d0ef395');
INSERT INTO "params" VALUES('tracking.model_name','cubescout','94df612c35124aba985de04f3d0ef395');
INSERT INTO "params" VALUES('tracking.catalog_name','cubescout-catalog','94df612c35124aba985de04f3d0ef395');
INSERT INTO "params" VALUES('model.kind','ae','94df612c35124aba985de04f3d0ef395');
INSERT INTO "params" VALUES('model.latent_dim','4','94df612c35124aba985de04f3d0ef395');
INSERT INTO "params" VALUES('model.steps','line','94df612c35124aba985de04f3d0ef395');
INSERT INTO "params" VALUES('model.normalise','asinh','94df612c35124aba985de04f3d0ef395');
INSERT INTO "params" VALUES('model.step_channels','2','94df612c35124aba985de04f3d0ef395');
INSERT INTO "params" VALUES('model.lstm_channels','2','94df612c35124aba985de04f3d0ef395');
INSERT INTO "params" VALUES('model.decoder_channels','2','94df612c35124aba985de04f3d0ef395');
INSERT INTO "params" VALUES('model.mask_input','True','94df612c35124aba985de04f3d0ef395');
INSERT INTO "params" VALUES('model.shortcut','True','94df612c35124aba985de04f3d0ef395');
INSERT INTO "params" VALUES('model.own_step_weights','False','94df612c35124aba985de04f3d0ef395');
INSERT INTO "params" VALUES('model.bidirectional','False','94df612c35124aba985de04f3d0ef395');
INSERT INTO "params" VALUES('model.decoder','own','94df612c35124aba985de04f3d0ef395');
INSERT INTO "params" VALUES('model.gradient_checkpoint_steps','None','94df612c35124aba985de04f3d0ef395');
INSERT INTO "params" VALUES('model.spaxel_code','2','94df612c35124aba985de04f3d0ef395');
INSERT INTO "params" VALUES('train.epochs','2','94df612c35124aba985de04f3d0ef395');
INSERT INTO "params" VALUES('train.batch_size','16','94df612c35124aba985de04f3d0ef395');
INSERT INTO "params" VALUES('train.optimizer','adamw','94df612c35124aba985de04f3d0ef395');
INSERT INTO "params" VALUES('train.lr','0.005','94df612c35124aba985de04f3d0ef395');
INSERT INTO "params" VALUES('train.schedule','cosine','94df612c35124aba985de04f3d0ef395');
INSERT INTO "params" VALUES('train.weight_decay','0.0','94df612c35124aba985de04f3d0ef395');
INSERT INTO "params" VALUES('train.grad_clip','1.0','94df612c35124aba985de04f3d0ef395');
INSERT INTO "params" VALUES('train.loss','student-t','94df612c35124aba985de04f3d0ef395');
INSERT INTO "params" VALUES('train.error_floor','0.05','94df612c35124aba985de04f3d0ef395');
INSERT INTO "params" VALUES('train.kl_weight','0.0001','94df612c35124aba985de04f3d0ef395');
INSERT INTO "params" VALUES('train.kl_warmup_epochs','0.0','94df612c35124aba985de04f3d0ef395');
INSERT INTO "params" VALUES('train.free_bits','0.0','94df612c35124aba985de04f3d0ef395');
INSERT INTO "params" VALUES('train.bf16','False','94df612c35124aba985de04f3d0ef395');
INSERT INTO "params" VALUES('train.num_workers','0','94df612c35124aba985de04f3d0ef395');
INSERT INTO "params" VALUES('train.min_workers','None','94df612c35124aba985de04f3d0ef395');
INSERT INTO "params" VALUES('train.max_failures','3','94df612c35124aba985de04f3d0ef395');
INSERT INTO "params" VALUES('train.threads','None','94df612c35124aba985de04f3d0ef395');
INSERT INTO "params" VALUES('train.use_gpu','auto','94df612c35124aba985de04f3d0ef395');
INSERT INTO "params" VALUES('train.storage','None','94df612c35124aba985de04f3d0ef395');
INSERT INTO "params" VALUES('train.checkpoint_steps','None','94df612c35124aba985de04f3d0ef395');
INSERT INTO "params" VALUES('train.shuffle_rows','256','94df612c35124aba985de04f3d0ef395');
INSERT INTO "params" VALUES('train.cache_mib','1024','94df612c35124aba985de04f3d0ef395');
INSERT INTO "params" VALUES('train.folds','2','94df612c35124aba985de04f3d0ef395');
INSERT INTO "params" VALUES('train.left_out','1','94df612c35124aba985de04f3d0ef395');
INSERT INTO "params" VALUES('tune.num_trials','8','94df612c35124aba985de04f3d0ef395');
INSERT INTO "params" VALUES('tune.concurrency','2','94df612c35124aba985de04f3d0ef395');
INSERT INTO "params" VALUES('tune.workers_per_trial','1','94df612c35124aba985de04f3d0ef395');
INSERT INTO "params" VALUES('tune.time_budget_s','None','94df612c35124aba985de04f3d0ef395');
INSERT INTO "params" VALUES('tune.max_retries','1','94df612c35124aba985de04f3d0ef395');
INSERT INTO "params" VALUES('tune.retrain','False','94df612c35124aba985de04f3d0ef395');
INSERT INTO "params" VALUES('tune.epochs','4','94df612c35124aba985de04f3d0ef395');
INSERT INTO "params" VALUES('tune.grace_epochs','1','94df612c35124aba985de04f3d0ef395');
INSERT INTO "params" VALUES('tune.space.train.lr.loguniform','[0.001, 0.01]','94df612c35124aba985de04f3d0ef395');
INSERT INTO "params" VALUES('tune.space.model.latent_dim.choice','[32, 64, 128]','94df612c35124aba985de04f3d0ef395');
CREATE TABLE "registered_model_aliases" (
	alias VARCHAR(256) NOT NULL, 
	version INTEGER NOT NULL, 
	name VARCHAR(256) NOT NULL, 
	workspace VARCHAR(63) DEFAULT 'default' NOT NULL, 
	CONSTRAINT registered_model_alias_pk PRIMARY KEY (workspace, name, alias), 
	CONSTRAINT fk_registered_model_aliases_registered_models FOREIGN KEY(workspace, name) REFERENCES registered_models (workspace, name) ON DELETE CASCADE ON UPDATE CASCADE
);
INSERT INTO "registered_model_aliases" VALUES('candidate',1,'cubescout','default');
INSERT INTO "registered_model_aliases" VALUES('champion',1,'cubescout','default');
INSERT INTO "registered_model_aliases" VALUES('current',1,'cubescout-catalog','default');
CREATE TABLE "registered_model_tags" (
	"key" VARCHAR(250) NOT NULL, 
	value VARCHAR(5000), 
	name VARCHAR(256) NOT NULL, 
	workspace VARCHAR(63) DEFAULT 'default' NOT NULL, 
	CONSTRAINT registered_model_tag_pk PRIMARY KEY (workspace, "key", name), 
	CONSTRAINT fk_registered_model_tags_registered_models FOREIGN KEY(workspace, name) REFERENCES registered_models (workspace, name) ON UPDATE CASCADE
);
CREATE TABLE "registered_models" (
	name VARCHAR(256) NOT NULL, 
	creation_time BIGINT, 
	last_updated_time BIGINT, 
	description VARCHAR(5000), 
	workspace VARCHAR(63) DEFAULT 'default' NOT NULL, 
	CONSTRAINT registered_model_pk PRIMARY KEY (workspace, name)
);
INSERT INTO "registered_models" VALUES('cubescout',1795688024155,1795688025224,NULL,'default');
INSERT INTO "registered_models" VALUES('cubescout-catalog',1795688052273,1795688052304,NULL,'default');
CREATE TABLE review_queue_items (
	queue_id VARCHAR(36) NOT NULL, 
	item_type VARCHAR(16) NOT NULL, 
	item_id VARCHAR(50) NOT NULL, 
	status VARCHAR(16) NOT NULL, 
	completed_by VARCHAR(250), 
	completed_time_ms BIGINT, 
	creation_time_ms BIGINT NOT NULL, 
	last_update_time_ms BIGINT NOT NULL, 
	CONSTRAINT review_queue_items_pk PRIMARY KEY (queue_id, item_id), 
	CONSTRAINT fk_review_queue_items_queue_id FOREIGN KEY(queue_id) REFERENCES review_queues (queue_id) ON DELETE CASCADE
);
CREATE TABLE review_queue_label_schemas (
	queue_id VARCHAR(36) NOT NULL, 
	schema_id VARCHAR(36) NOT NULL, 
	CONSTRAINT review_queue_label_schemas_pk PRIMARY KEY (queue_id, schema_id), 
	CONSTRAINT fk_review_queue_label_schemas_queue_id FOREIGN KEY(queue_id) REFERENCES review_queues (queue_id) ON DELETE CASCADE
);
CREATE TABLE review_queue_users (
	queue_id VARCHAR(36) NOT NULL, 
	user_id VARCHAR(250) NOT NULL, 
	CONSTRAINT review_queue_users_pk PRIMARY KEY (queue_id, user_id), 
	CONSTRAINT fk_review_queue_users_queue_id FOREIGN KEY(queue_id) REFERENCES review_queues (queue_id) ON DELETE CASCADE
);
CREATE TABLE review_queues (
	queue_id VARCHAR(36) NOT NULL, 
	experiment_id INTEGER NOT NULL, 
	name VARCHAR(250) NOT NULL, 
	queue_type VARCHAR(16) NOT NULL, 
	created_by VARCHAR(255), 
	creation_time_ms BIGINT NOT NULL, 
	last_update_time_ms BIGINT NOT NULL, 
	name_key VARCHAR(250) NOT NULL, 
	CONSTRAINT review_queues_pk PRIMARY KEY (queue_id), 
	CONSTRAINT fk_review_queues_experiment_id FOREIGN KEY(experiment_id) REFERENCES experiments (experiment_id) ON DELETE CASCADE, 
	CONSTRAINT uq_review_queues_experiment_name_key UNIQUE (experiment_id, name_key)
);
CREATE TABLE "runs" (
	run_uuid VARCHAR(32) NOT NULL, 
	name VARCHAR(250), 
	source_type VARCHAR(20), 
	source_name VARCHAR(500), 
	entry_point_name VARCHAR(50), 
	user_id VARCHAR(256), 
	status VARCHAR(9), 
	start_time BIGINT, 
	end_time BIGINT, 
	source_version VARCHAR(50), 
	lifecycle_stage VARCHAR(20), 
	artifact_uri VARCHAR(200), 
	experiment_id INTEGER, deleted_time BIGINT, 
	CONSTRAINT run_pk PRIMARY KEY (run_uuid), 
	CONSTRAINT source_type CHECK (source_type IN ('NOTEBOOK', 'JOB', 'LOCAL', 'UNKNOWN', 'PROJECT')), 
	CONSTRAINT runs_lifecycle_stage CHECK (lifecycle_stage IN ('active', 'deleted')), 
	FOREIGN KEY(experiment_id) REFERENCES experiments (experiment_id), 
	CHECK (status IN ('SCHEDULED', 'FAILED', 'FINISHED', 'RUNNING', 'KILLED'))
);
INSERT INTO "runs" VALUES('c5c43b2044004acdb011af2530ab5780','prepare-d3072053caef','UNKNOWN','','','unknown','FINISHED',1795687999111,1795687999364,'','active','file://WORKSPACE/mlartifacts/cubescout/c5c43b2044004acdb011af2530ab5780/artifacts',1,NULL);
INSERT INTO "runs" VALUES('94df612c35124aba985de04f3d0ef395','train-08305d2f9b22','UNKNOWN','','','unknown','FINISHED',1795688007607,1795688025294,'','active','file://WORKSPACE/mlartifacts/cubescout/94df612c35124aba985de04f3d0ef395/artifacts',1,NULL);
INSERT INTO "runs" VALUES('c106f20da5354022b8e0747e8dd80592','catalog','UNKNOWN','','','unknown','FINISHED',1795688051121,1795688052359,'','active','file://WORKSPACE/mlartifacts/cubescout/c106f20da5354022b8e0747e8dd80592/artifacts',1,NULL);
CREATE TABLE scheduler_leases (
	lease_key VARCHAR(255) NOT NULL, 
	acquired_at BIGINT NOT NULL, 
	ttl_seconds INTEGER NOT NULL, 
	CONSTRAINT scheduler_leases_pk PRIMARY KEY (lease_key)
);
CREATE TABLE scorer_versions (
	scorer_id VARCHAR(36) NOT NULL, 
	scorer_version INTEGER NOT NULL, 
	serialized_scorer TEXT NOT NULL, 
	creation_time BIGINT, 
	CONSTRAINT scorer_version_pk PRIMARY KEY (scorer_id, scorer_version), 
	CONSTRAINT fk_scorer_versions_scorer_id FOREIGN KEY(scorer_id) REFERENCES scorers (scorer_id) ON DELETE CASCADE
);
CREATE TABLE scorers (
	experiment_id INTEGER NOT NULL, 
	scorer_name VARCHAR(256) NOT NULL, 
	scorer_id VARCHAR(36) NOT NULL, 
	CONSTRAINT scorer_pk PRIMARY KEY (scorer_id), 
	CONSTRAINT fk_scorers_experiment_id FOREIGN KEY(experiment_id) REFERENCES experiments (experiment_id) ON DELETE CASCADE
);
CREATE TABLE "secrets" (
	secret_id VARCHAR(36) NOT NULL, 
	secret_name VARCHAR(255) NOT NULL, 
	encrypted_value BLOB NOT NULL, 
	wrapped_dek BLOB NOT NULL, 
	kek_version INTEGER NOT NULL, 
	masked_value VARCHAR(500) NOT NULL, 
	provider VARCHAR(64), 
	auth_config TEXT, 
	description TEXT, 
	created_by VARCHAR(255), 
	created_at BIGINT NOT NULL, 
	last_updated_by VARCHAR(255), 
	last_updated_at BIGINT NOT NULL, 
	workspace VARCHAR(63) DEFAULT 'default' NOT NULL, 
	CONSTRAINT secrets_pk PRIMARY KEY (secret_id), 
	CONSTRAINT uq_secrets_workspace_secret_name UNIQUE (workspace, secret_name)
);
CREATE TABLE span_metrics (
	trace_id VARCHAR(50) NOT NULL, 
	span_id VARCHAR(50) NOT NULL, 
	"key" VARCHAR(250) NOT NULL, 
	value FLOAT, 
	CONSTRAINT span_metrics_pk PRIMARY KEY (trace_id, span_id, "key"), 
	CONSTRAINT fk_span_metrics_span FOREIGN KEY(trace_id, span_id) REFERENCES spans (trace_id, span_id) ON DELETE CASCADE
);
CREATE TABLE "spans" (
	trace_id VARCHAR(50) NOT NULL, 
	experiment_id INTEGER NOT NULL, 
	span_id VARCHAR(50) NOT NULL, 
	parent_span_id VARCHAR(50), 
	name TEXT, 
	type VARCHAR(500), 
	status VARCHAR(50) NOT NULL, 
	start_time_unix_nano BIGINT NOT NULL, 
	end_time_unix_nano BIGINT, 
	duration_ns BIGINT GENERATED ALWAYS AS (end_time_unix_nano - start_time_unix_nano) STORED, 
	content TEXT NOT NULL, 
	input_cost FLOAT, 
	output_cost FLOAT, 
	total_cost FLOAT, 
	model_name VARCHAR(500), 
	model_provider VARCHAR(500), 
	CONSTRAINT spans_pk PRIMARY KEY (trace_id, span_id), 
	CONSTRAINT fk_spans_experiment_id FOREIGN KEY(experiment_id) REFERENCES experiments (experiment_id), 
	CONSTRAINT fk_spans_trace_id FOREIGN KEY(trace_id) REFERENCES trace_info (request_id) ON DELETE CASCADE
);
CREATE TABLE sql_assessment_daily_rollups (
	id INTEGER NOT NULL, 
	experiment_id INTEGER NOT NULL, 
	rollup_day DATE NOT NULL, 
	metric_name VARCHAR(250) NOT NULL, 
	grouping_set VARCHAR(50) NOT NULL, 
	sample_count BIGINT NOT NULL, 
	sum_value FLOAT, 
	min_value FLOAT, 
	max_value FLOAT, 
	CONSTRAINT sql_assessment_daily_rollups_pk PRIMARY KEY (id)
);
CREATE TABLE sql_span_cost_daily_rollups (
	id INTEGER NOT NULL, 
	experiment_id INTEGER NOT NULL, 
	rollup_day DATE NOT NULL, 
	metric_name VARCHAR(250) NOT NULL, 
	grouping_set VARCHAR(50) NOT NULL, 
	model_name VARCHAR(500), 
	model_provider VARCHAR(500), 
	sample_count BIGINT NOT NULL, 
	sum_value FLOAT, 
	min_value FLOAT, 
	max_value FLOAT, 
	CONSTRAINT sql_span_cost_daily_rollups_pk PRIMARY KEY (id)
);
CREATE TABLE sql_trace_metric_daily_rollups (
	id INTEGER NOT NULL, 
	experiment_id INTEGER NOT NULL, 
	rollup_day DATE NOT NULL, 
	metric_name VARCHAR(250) NOT NULL, 
	grouping_set VARCHAR(50) NOT NULL, 
	trace_status VARCHAR(50), 
	sample_count BIGINT NOT NULL, 
	sum_value FLOAT, 
	min_value FLOAT, 
	max_value FLOAT, 
	p50_value FLOAT, 
	p90_value FLOAT, 
	p99_value FLOAT, 
	CONSTRAINT sql_trace_metric_daily_rollups_pk PRIMARY KEY (id)
);
CREATE TABLE sql_trace_rollup_rebuild_queue (
	experiment_id INTEGER NOT NULL, 
	rollup_day DATE NOT NULL, 
	rollup_family VARCHAR(50) NOT NULL, 
	CONSTRAINT sql_trace_rollup_rebuild_queue_pk PRIMARY KEY (experiment_id, rollup_day, rollup_family)
);
CREATE TABLE "tags" (
	"key" VARCHAR(250) NOT NULL, 
	value VARCHAR(8000), 
	run_uuid VARCHAR(32) NOT NULL, 
	CONSTRAINT tag_pk PRIMARY KEY ("key", run_uuid), 
	FOREIGN KEY(run_uuid) REFERENCES runs (run_uuid)
);
INSERT INTO "tags" VALUES('mlflow.runName','prepare-d3072053caef','c5c43b2044004acdb011af2530ab5780');
INSERT INTO "tags" VALUES('code_version','0.1.0','c5c43b2044004acdb011af2530ab5780');
INSERT INTO "tags" VALUES('job','prepare','c5c43b2044004acdb011af2530ab5780');
INSERT INTO "tags" VALUES('store','line/windows.zarr','c5c43b2044004acdb011af2530ab5780');
INSERT INTO "tags" VALUES('store_identity','d3072053caef286e2e64e0196d0c8c94c679aa58951a09e11e6f608f7dc8649f','c5c43b2044004acdb011af2530ab5780');
INSERT INTO "tags" VALUES('mlflow.runName','train-08305d2f9b22','94df612c35124aba985de04f3d0ef395');
INSERT INTO "tags" VALUES('code_version','0.1.0','94df612c35124aba985de04f3d0ef395');
INSERT INTO "tags" VALUES('job','train','94df612c35124aba985de04f3d0ef395');
INSERT INTO "tags" VALUES('model_kind','ae','94df612c35124aba985de04f3d0ef395');
INSERT INTO "tags" VALUES('mlflow.parentRunId','c5c43b2044004acdb011af2530ab5780','94df612c35124aba985de04f3d0ef395');
INSERT INTO "tags" VALUES('store','WORKSPACE/windows.zarr','94df612c35124aba985de04f3d0ef395');
INSERT INTO "tags" VALUES('store_identity','d3072053caef286e2e64e0196d0c8c94c679aa58951a09e11e6f608f7dc8649f','94df612c35124aba985de04f3d0ef395');
INSERT INTO "tags" VALUES('mlflow.runName','catalog','c106f20da5354022b8e0747e8dd80592');
INSERT INTO "tags" VALUES('code_version','0.1.0','c106f20da5354022b8e0747e8dd80592');
INSERT INTO "tags" VALUES('job','score','c106f20da5354022b8e0747e8dd80592');
INSERT INTO "tags" VALUES('created_utc','2026-11-26T10:14:10+00:00','c106f20da5354022b8e0747e8dd80592');
INSERT INTO "tags" VALUES('config.model','None','c106f20da5354022b8e0747e8dd80592');
INSERT INTO "tags" VALUES('config.rank_by','combined','c106f20da5354022b8e0747e8dd80592');
INSERT INTO "tags" VALUES('config.fdr','0.1','c106f20da5354022b8e0747e8dd80592');
INSERT INTO "tags" VALUES('config.calibration_galaxies','512','c106f20da5354022b8e0747e8dd80592');
INSERT INTO "tags" VALUES('config.psf_fwhm_spaxels','5.0','c106f20da5354022b8e0747e8dd80592');
INSERT INTO "tags" VALUES('config.spaxel_arcsec','0.5','c106f20da5354022b8e0747e8dd80592');
INSERT INTO "tags" VALUES('config.num_workers','0','c106f20da5354022b8e0747e8dd80592');
INSERT INTO "tags" VALUES('config.batch_size','16','c106f20da5354022b8e0747e8dd80592');
INSERT INTO "tags" VALUES('config.device','cpu','c106f20da5354022b8e0747e8dd80592');
INSERT INTO "tags" VALUES('config.num_neighbours','5','c106f20da5354022b8e0747e8dd80592');
INSERT INTO "tags" VALUES('config.umap_neighbours','15','c106f20da5354022b8e0747e8dd80592');
INSERT INTO "tags" VALUES('config.umap_min_dist','0.1','c106f20da5354022b8e0747e8dd80592');
INSERT INTO "tags" VALUES('config_sha256','a9a4b7a3870049db5fa2732a8fccf685d2870d4d95834777b71ac12512b9409a','c106f20da5354022b8e0747e8dd80592');
INSERT INTO "tags" VALUES('seed','0','c106f20da5354022b8e0747e8dd80592');
INSERT INTO "tags" VALUES('store.identity','d3072053caef286e2e64e0196d0c8c94c679aa58951a09e11e6f608f7dc8649f','c106f20da5354022b8e0747e8dd80592');
INSERT INTO "tags" VALUES('store.path','line/windows.zarr','c106f20da5354022b8e0747e8dd80592');
INSERT INTO "tags" VALUES('store.flux_unit','1e-17 erg / (s cm2 Angstrom spaxel)','c106f20da5354022b8e0747e8dd80592');
INSERT INTO "tags" VALUES('model.reference','models:/cubescout/1','c106f20da5354022b8e0747e8dd80592');
INSERT INTO "tags" VALUES('model.version','1','c106f20da5354022b8e0747e8dd80592');
INSERT INTO "tags" VALUES('model.digest','2c87570ff4db53216c79cb81dc5dad9238ed1c19ef98668d163904b72cc65361','c106f20da5354022b8e0747e8dd80592');
INSERT INTO "tags" VALUES('model.trained_on','d3072053caef286e2e64e0196d0c8c94c679aa58951a09e11e6f608f7dc8649f','c106f20da5354022b8e0747e8dd80592');
INSERT INTO "tags" VALUES('model.num_left_out','1','c106f20da5354022b8e0747e8dd80592');
INSERT INTO "tags" VALUES('model.fold_digests','[''b5f52c1d864da7048283b428cfd1179c5f6e694b603148c486e38f1cffce0f50'', ''ffb7c2b599c2d61cd12ce5f3b6a4a4dd0d2240d132b81eb01617c2c670a17a99'']','c106f20da5354022b8e0747e8dd80592');
INSERT INTO "tags" VALUES('num_galaxies','9','c106f20da5354022b8e0747e8dd80592');
INSERT INTO "tags" VALUES('rank_by','combined','c106f20da5354022b8e0747e8dd80592');
INSERT INTO "tags" VALUES('spearman.score.flux','0.33333333333333337','c106f20da5354022b8e0747e8dd80592');
INSERT INTO "tags" VALUES('spearman.score.snr','0.19999999999999998','c106f20da5354022b8e0747e8dd80592');
INSERT INTO "tags" VALUES('spearman.combined.flux','0.33333333333333337','c106f20da5354022b8e0747e8dd80592');
INSERT INTO "tags" VALUES('spearman.combined.snr','0.19999999999999998','c106f20da5354022b8e0747e8dd80592');
INSERT INTO "tags" VALUES('spearman.unexplained.flux','-0.35','c106f20da5354022b8e0747e8dd80592');
INSERT INTO "tags" VALUES('spearman.unexplained.snr','-0.11666666666666665','c106f20da5354022b8e0747e8dd80592');
INSERT INTO "tags" VALUES('spearman.chi2.flux','0.2833333333333333','c106f20da5354022b8e0747e8dd80592');
INSERT INTO "tags" VALUES('spearman.chi2.snr','0.43333333333333335','c106f20da5354022b8e0747e8dd80592');
INSERT INTO "tags" VALUES('spearman.relative.flux','-0.48333333333333334','c106f20da5354022b8e0747e8dd80592');
INSERT INTO "tags" VALUES('spearman.relative.snr','-0.21666666666666667','c106f20da5354022b8e0747e8dd80592');
INSERT INTO "tags" VALUES('spearman.mae.flux','0.45','c106f20da5354022b8e0747e8dd80592');
INSERT INTO "tags" VALUES('spearman.mae.snr','0.4666666666666666','c106f20da5354022b8e0747e8dd80592');
INSERT INTO "tags" VALUES('judges','{}','c106f20da5354022b8e0747e8dd80592');
INSERT INTO "tags" VALUES('by_redshift','{}','c106f20da5354022b8e0747e8dd80592');
INSERT INTO "tags" VALUES('mlflow.parentRunId','94df612c35124aba985de04f3d0ef395','c106f20da5354022b8e0747e8dd80592');
INSERT INTO "tags" VALUES('store','line/windows.zarr','c106f20da5354022b8e0747e8dd80592');
INSERT INTO "tags" VALUES('store_identity','d3072053caef286e2e64e0196d0c8c94c679aa58951a09e11e6f608f7dc8649f','c106f20da5354022b8e0747e8dd80592');
CREATE TABLE "trace_info" (
	request_id VARCHAR(50) NOT NULL, 
	experiment_id INTEGER NOT NULL, 
	timestamp_ms BIGINT NOT NULL, 
	execution_time_ms BIGINT, 
	status VARCHAR(50) NOT NULL, 
	client_request_id VARCHAR(50), 
	request_preview VARCHAR(1000), 
	response_preview VARCHAR(1000), 
	db_payload_generation INTEGER DEFAULT '0' NOT NULL, trace_name VARCHAR(4096), session_id VARCHAR(250), input_tokens BIGINT, output_tokens BIGINT, total_tokens BIGINT, cache_read_input_tokens BIGINT, cache_creation_input_tokens BIGINT, cache_creation_input_tokens_above_1hr BIGINT, input_cost FLOAT, output_cost FLOAT, total_cost FLOAT, 
	CONSTRAINT trace_info_pk PRIMARY KEY (request_id), 
	CONSTRAINT fk_trace_info_experiment_id FOREIGN KEY(experiment_id) REFERENCES experiments (experiment_id) ON DELETE CASCADE
);
CREATE TABLE trace_metrics (
	request_id VARCHAR(50) NOT NULL, 
	"key" VARCHAR(250) NOT NULL, 
	value FLOAT, 
	CONSTRAINT trace_metrics_pk PRIMARY KEY (request_id, "key"), 
	CONSTRAINT fk_trace_metrics_request_id FOREIGN KEY(request_id) REFERENCES trace_info (request_id) ON DELETE CASCADE
);
CREATE TABLE "trace_request_metadata" (
	"key" VARCHAR(250) NOT NULL, 
	value VARCHAR(8000), 
	request_id VARCHAR(50) NOT NULL, 
	CONSTRAINT trace_request_metadata_pk PRIMARY KEY ("key", request_id), 
	CONSTRAINT fk_trace_request_metadata_request_id FOREIGN KEY(request_id) REFERENCES trace_info (request_id) ON DELETE CASCADE
);
CREATE TABLE "trace_tags" (
	"key" VARCHAR(250) NOT NULL, 
	value VARCHAR(8000), 
	request_id VARCHAR(50) NOT NULL, 
	CONSTRAINT trace_tag_pk PRIMARY KEY ("key", request_id), 
	CONSTRAINT fk_trace_tags_request_id FOREIGN KEY(request_id) REFERENCES trace_info (request_id) ON DELETE CASCADE
);
CREATE TABLE webhook_events (
	webhook_id VARCHAR(256) NOT NULL, 
	entity VARCHAR(50) NOT NULL, 
	action VARCHAR(50) NOT NULL, 
	CONSTRAINT webhook_event_pk PRIMARY KEY (webhook_id, entity, action), 
	FOREIGN KEY(webhook_id) REFERENCES webhooks (webhook_id) ON DELETE cascade
);
CREATE TABLE "webhooks" (
	webhook_id VARCHAR(256) NOT NULL, 
	name VARCHAR(256) NOT NULL, 
	description VARCHAR(1000), 
	url VARCHAR(500) NOT NULL, 
	status VARCHAR(20) DEFAULT 'ACTIVE' NOT NULL, 
	secret VARCHAR(1000), 
	creation_timestamp BIGINT, 
	last_updated_timestamp BIGINT, 
	deleted_timestamp BIGINT, 
	workspace VARCHAR(63) DEFAULT 'default' NOT NULL, 
	CONSTRAINT webhook_pk PRIMARY KEY (webhook_id)
);
CREATE TABLE workspaces (
	name VARCHAR(63) NOT NULL, 
	description TEXT, 
	default_artifact_root TEXT, trace_archival_location TEXT, trace_archival_retention VARCHAR(32), 
	CONSTRAINT workspaces_pk PRIMARY KEY (name)
);
INSERT INTO "workspaces" VALUES('default','Default workspace for legacy resources',NULL,NULL,NULL);
CREATE INDEX index_metrics_run_uuid ON metrics (run_uuid);
CREATE INDEX index_latest_metrics_run_uuid ON latest_metrics (run_uuid);
CREATE INDEX index_inputs_destination_type_destination_id_source_type ON inputs (destination_type, destination_id, source_type);
CREATE INDEX index_inputs_input_uuid ON inputs (input_uuid);
CREATE INDEX index_params_run_uuid ON params (run_uuid);
CREATE INDEX index_trace_tags_request_id ON trace_tags (request_id);
CREATE INDEX index_trace_request_metadata_request_id ON trace_request_metadata (request_id);
CREATE INDEX index_tags_run_uuid ON tags (run_uuid);
CREATE INDEX index_datasets_dataset_uuid ON datasets (dataset_uuid);
CREATE INDEX index_datasets_experiment_id_dataset_source_type ON datasets (experiment_id, dataset_source_type);
CREATE INDEX index_logged_model_metrics_model_id ON logged_model_metrics (model_id);
CREATE INDEX index_entity_associations_association_id ON entity_associations (association_id);
CREATE INDEX index_entity_associations_reverse_lookup ON entity_associations (destination_type, destination_id, source_type, source_id);
CREATE INDEX idx_webhook_events_entity ON webhook_events (entity);
CREATE INDEX idx_webhook_events_action ON webhook_events (action);
CREATE INDEX idx_webhook_events_entity_action ON webhook_events (entity, action);
CREATE UNIQUE INDEX index_scorers_experiment_id_scorer_name ON scorers (experiment_id, scorer_name);
CREATE INDEX index_scorer_versions_scorer_id ON scorer_versions (scorer_id);
CREATE INDEX index_evaluation_dataset_tags_dataset_id ON evaluation_dataset_tags (dataset_id);
CREATE INDEX index_evaluation_dataset_records_dataset_id ON evaluation_dataset_records (dataset_id);
CREATE INDEX index_endpoint_model_mappings_endpoint_id ON endpoint_model_mappings (endpoint_id);
CREATE INDEX index_endpoint_model_mappings_model_definition_id ON endpoint_model_mappings (model_definition_id);
CREATE INDEX index_endpoint_tags_endpoint_id ON endpoint_tags (endpoint_id);
CREATE INDEX index_trace_metrics_request_id ON trace_metrics (request_id);
CREATE UNIQUE INDEX unique_endpoint_model_linkage_mapping ON endpoint_model_mappings (endpoint_id, model_definition_id, linkage_type);
CREATE INDEX index_span_metrics_trace_id_span_id ON span_metrics (trace_id, span_id);
CREATE INDEX index_evaluation_datasets_name ON evaluation_datasets (name);
CREATE INDEX index_evaluation_datasets_created_time ON evaluation_datasets (created_time);
CREATE INDEX idx_webhooks_name ON webhooks (name);
CREATE INDEX idx_webhooks_status ON webhooks (status);
CREATE TRIGGER prevent_secrets_aad_mutation
BEFORE UPDATE ON secrets
FOR EACH ROW
WHEN OLD.secret_id != NEW.secret_id OR OLD.secret_name != NEW.secret_name
BEGIN
    SELECT RAISE(ABORT, 'secret_id and secret_name are immutable (used as AAD in encryption)');
END;
CREATE INDEX index_model_definitions_provider ON model_definitions (provider);
CREATE INDEX index_model_definitions_secret_id ON model_definitions (secret_id);
CREATE INDEX index_jobs_name_status_creation_time ON jobs (job_name, workspace, status, creation_time);
CREATE INDEX idx_experiments_workspace ON experiments (workspace);
CREATE INDEX idx_registered_models_workspace ON registered_models (workspace);
CREATE INDEX idx_experiments_workspace_creation_time ON experiments (workspace, creation_time);
CREATE INDEX idx_evaluation_datasets_workspace ON evaluation_datasets (workspace);
CREATE INDEX idx_webhooks_workspace ON webhooks (workspace);
CREATE INDEX idx_secrets_workspace ON secrets (workspace);
CREATE INDEX idx_endpoints_workspace ON endpoints (workspace);
CREATE INDEX idx_model_definitions_workspace ON model_definitions (workspace);
CREATE INDEX idx_budget_policies_workspace ON budget_policies (workspace);
CREATE INDEX index_issues_experiment_id ON issues (experiment_id);
CREATE INDEX index_issues_source_run_id ON issues (source_run_id);
CREATE INDEX index_issues_status ON issues (status);
CREATE INDEX index_metrics_run_uuid_key_step ON metrics (run_uuid, "key", step);
CREATE INDEX idx_guardrails_workspace ON guardrails (workspace);
CREATE INDEX idx_guardrails_scorer ON guardrails (scorer_id, scorer_version);
CREATE INDEX idx_guardrail_configs_endpoint_id ON guardrail_configs (endpoint_id);
CREATE INDEX idx_guardrail_configs_guardrail_id ON guardrail_configs (guardrail_id);
CREATE INDEX idx_model_version_tags_workspace_name_version ON model_version_tags (workspace, name, version);
CREATE INDEX idx_registered_model_tags_workspace_name ON registered_model_tags (workspace, name);
CREATE INDEX index_label_schemas_experiment_id ON label_schemas (experiment_id);
CREATE INDEX index_review_queues_experiment_id ON review_queues (experiment_id);
CREATE INDEX index_review_queue_users_user_id ON review_queue_users (user_id);
CREATE INDEX index_review_queue_items_queue_id_status ON review_queue_items (queue_id, status);
CREATE INDEX index_review_queue_items_item_id ON review_queue_items (item_id);
CREATE INDEX index_review_queue_label_schemas_schema_id ON review_queue_label_schemas (schema_id);
CREATE INDEX idx_mcp_server_versions_latest ON mcp_server_versions (workspace, name, status, version_major DESC, version_minor DESC, version_patch DESC);
CREATE INDEX ix_mcp_access_endpoints_server_name ON mcp_access_endpoints (workspace, server_name);
CREATE INDEX ix_mcp_access_endpoints_version ON mcp_access_endpoints (workspace, server_name, server_version);
CREATE INDEX ix_mcp_access_endpoints_alias ON mcp_access_endpoints (workspace, server_name, server_alias);
CREATE INDEX idx_budget_policies_target_value ON budget_policies (target_value);
CREATE INDEX index_trace_info_experiment_id_timestamp_ms ON trace_info (experiment_id, timestamp_ms);
CREATE INDEX index_trace_info_timestamp_ms_request_id ON trace_info (timestamp_ms, request_id);
CREATE INDEX index_assessments_assessment_type ON assessments (assessment_type);
CREATE INDEX index_assessments_run_id_created_timestamp ON assessments (run_id, created_timestamp);
CREATE INDEX index_assessments_last_updated_timestamp ON assessments (last_updated_timestamp);
CREATE INDEX index_assessments_trace_id_created_timestamp ON assessments (trace_id, created_timestamp);
CREATE INDEX index_spans_experiment_id_status_type ON spans (experiment_id, status, type);
CREATE INDEX index_spans_experiment_id_duration ON spans (experiment_id, duration_ns);
CREATE INDEX index_spans_experiment_id_type_status ON spans (experiment_id, type, status);
CREATE INDEX index_spans_experiment_id_start_time ON spans (experiment_id, start_time_unix_nano);
CREATE INDEX index_trace_info_experiment_id_session_id ON trace_info (experiment_id, session_id);
CREATE INDEX idx_trace_rollups_lookup ON sql_trace_metric_daily_rollups (experiment_id, rollup_day, metric_name, grouping_set, trace_status);
CREATE INDEX idx_span_cost_rollups_lookup ON sql_span_cost_daily_rollups (experiment_id, rollup_day, metric_name, grouping_set, model_name, model_provider);
CREATE INDEX idx_assessment_rollups_lookup ON sql_assessment_daily_rollups (experiment_id, rollup_day, metric_name, grouping_set);
CREATE INDEX idx_spans_cost_trace_time_cover ON spans (trace_id, start_time_unix_nano);
CREATE INDEX idx_spans_cost_exp_time_cover ON spans (experiment_id, start_time_unix_nano);
CREATE INDEX idx_assessments_exp_trace_ts ON assessments (experiment_id, trace_timestamp_ms);
CREATE INDEX idx_assessments_exp_trace_ts_name ON assessments (experiment_id, trace_timestamp_ms, name);
CREATE INDEX idx_assessments_exp_name_valid ON assessments (experiment_id, name, valid);
CREATE INDEX index_job_locks_job_id ON job_locks (job_id);
CREATE INDEX index_jobs_status_lease_expires_at ON jobs (status, lease_expires_at);
COMMIT;
