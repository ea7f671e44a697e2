"""Operations of capability ports."""

import msgspec
import pytest

from bizosaas_ports.capabilities import operations
from bizosaas_ports.operation import Operation

OPERATIONS = operations()


def test_ports_are_found_by_walking_the_package() -> None:
    assert {"cms.list_content", "cms.create_draft", "cms.publish", "identity.get_profile"} <= set(OPERATIONS)


def test_effects_decide_about_approval_so_they_are_what_was_agreed() -> None:
    assert OPERATIONS["cms.list_content"].effect == "read"
    assert OPERATIONS["cms.create_draft"].effect == "write"
    assert OPERATIONS["cms.publish"].effect == "send"


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=lambda o: o.name)
def test_every_operation_refuses_unknown_arguments_and_describes_itself(operation: Operation) -> None:
    assert operation.request.__struct_config__.forbid_unknown_fields
    assert operation.summary
    assert msgspec.json.schema(operation.request)
    assert msgspec.json.schema(operation.result)
