"""Assertion rewriting for the shared suites, so that their failures explain themselves; nothing else."""

import pytest

pytest.register_assert_rewrite("bizosaas_events.testing", "bizosaas_ports.testing", "bizosaas_sandbox.testing")
