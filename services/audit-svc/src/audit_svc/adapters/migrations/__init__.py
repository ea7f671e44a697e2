"""audit-svc's own tables, beside the event log's."""
