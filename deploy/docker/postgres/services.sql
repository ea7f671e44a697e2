-- One database and one role per service: none can read another's. Runs once, on an empty data volume.
-- The passwords come from the environment; one that is missing stops the start (its :'name' is then a syntax error).
\getenv gateway_password GATEWAY_DATABASE_PASSWORD
\getenv tenant_svc_password TENANT_SVC_DATABASE_PASSWORD
\getenv connector_svc_password CONNECTOR_SVC_DATABASE_PASSWORD
\getenv secret_svc_password SECRET_SVC_DATABASE_PASSWORD
\getenv agent_svc_password AGENT_SVC_DATABASE_PASSWORD
\getenv workflow_svc_password WORKFLOW_SVC_DATABASE_PASSWORD
\getenv audit_svc_password AUDIT_SVC_DATABASE_PASSWORD
\getenv temporal_password TEMPORAL_DATABASE_PASSWORD

CREATE ROLE gateway LOGIN PASSWORD :'gateway_password';
CREATE ROLE tenant_svc LOGIN PASSWORD :'tenant_svc_password';
CREATE ROLE connector_svc LOGIN PASSWORD :'connector_svc_password';
CREATE ROLE secret_svc LOGIN PASSWORD :'secret_svc_password';
CREATE ROLE agent_svc LOGIN PASSWORD :'agent_svc_password';
CREATE ROLE workflow_svc LOGIN PASSWORD :'workflow_svc_password';
CREATE ROLE audit_svc LOGIN PASSWORD :'audit_svc_password';
CREATE ROLE temporal LOGIN PASSWORD :'temporal_password';

CREATE DATABASE gateway OWNER gateway;
CREATE DATABASE tenant_svc OWNER tenant_svc;
CREATE DATABASE connector_svc OWNER connector_svc;
CREATE DATABASE secret_svc OWNER secret_svc;
CREATE DATABASE agent_svc OWNER agent_svc;
CREATE DATABASE workflow_svc OWNER workflow_svc;
CREATE DATABASE audit_svc OWNER audit_svc;
CREATE DATABASE temporal OWNER temporal;
CREATE DATABASE temporal_visibility OWNER temporal;

-- PostgreSQL lets every role connect to every database unless told otherwise.
REVOKE CONNECT, TEMPORARY ON DATABASE gateway, tenant_svc, connector_svc, secret_svc, agent_svc, workflow_svc, audit_svc,
    temporal, temporal_visibility, postgres FROM PUBLIC;
