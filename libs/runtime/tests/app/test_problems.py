"""Refusals as HTTP tells them."""

import pytest

from bizosaas_events import Kind, Problem
from bizosaas_runtime.problems import STATUS, document, headers, status_of


def test_every_kind_has_a_status() -> None:
    assert set(STATUS) == set(Kind)


@pytest.mark.parametrize(
    ("kind", "slug", "status"),
    [
        (Kind.INVALID, "slug-invalid", 400), (Kind.NOT_FOUND, "not-found", 404), (Kind.CONFLICT, "taken", 409),
        (Kind.CONFLICT, "stale-version", 412), (Kind.UNAVAILABLE, "unavailable", 503),
        (Kind.UNAVAILABLE, "no-answer-yet", 504), (Kind.UNAVAILABLE, "internal", 500), ("unheard-of", "odd", 500),
    ],
)  # fmt: skip
def test_a_slug_wins_over_its_kind(kind: str, slug: str, status: int) -> None:
    assert status_of(Problem(kind=kind, slug=slug, detail="It was refused.")) == status


def test_a_document_names_type_field_and_remedy() -> None:
    problem = Problem(kind=Kind.INVALID, slug="slug-invalid", detail="No.", field="slug", remedy="Use letters.")
    said = document(problem, "/v1/tenants")
    assert {key: said[key] for key in ("type", "status", "detail", "instance", "field", "remedy")} == {
        "type": "/problems/slug-invalid", "status": 400, "detail": "No.", "instance": "/v1/tenants", "field": "slug",
        "remedy": "Use letters.",
    }  # fmt: skip
    assert "field" not in document(Problem(kind=Kind.INVALID, slug="x", detail="No."))


def test_when_to_try_again_is_told_in_whole_seconds() -> None:
    away = Problem(kind=Kind.UNAVAILABLE, slug="unavailable", detail="Away.")
    assert headers(away) == {"Retry-After": "2"}
    assert headers(Problem(kind=Kind.UNAVAILABLE, slug="x", detail="Away.", retry_after=0.2)) == {"Retry-After": "1"}
    assert headers(Problem(kind=Kind.INVALID, slug="x", detail="No.")) == {}
