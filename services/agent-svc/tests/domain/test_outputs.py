"""What agents deliver."""

import pytest
from pydantic import ValidationError

from agent_svc.domain.outputs import OUTPUTS, Draft


def test_where_the_draft_is_comes_from_the_tool_and_not_from_the_model() -> None:
    claimed = Draft(title="Tea", body="b", content_id="999", url="https://evil.test")

    real = claimed.with_facts([("cms.create_draft", {"id": "7", "url": "https://acme.test/?p=7"})])

    assert (real.content_id, real.url) == ("7", "https://acme.test/?p=7")


def test_a_draft_nobody_saved_has_no_address_and_says_so() -> None:
    real = Draft(title="Tea", body="b", content_id="999").with_facts([("cms.list_content", {"items": []})])

    assert (real.content_id, real.url) == ("", "")
    assert "not saved" in real.checks[-1]


@pytest.mark.parametrize("wrong", [{"title": ""}, {"format": "pdf"}, {"locale": "klingon!"}, {"colour": "blue"}])
def test_what_does_not_fit_is_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        Draft.model_validate({"title": "Tea", "body": "b"} | wrong)


@pytest.mark.parametrize("name", OUTPUTS)
def test_every_output_carries_summary_confidence_and_evidence_and_has_a_schema(name: str) -> None:
    schema = OUTPUTS[name].model_json_schema()

    assert {"summary", "confidence", "evidence"} <= set(schema["properties"])
    assert schema["additionalProperties"] is False
