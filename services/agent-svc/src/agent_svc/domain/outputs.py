"""The types of what agents deliver, found by name: one class per type.

Facts about the outside (where the draft is, its id) are taken from tool
results by `with_facts`, never from what the model says about them.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Results = Sequence[tuple[str, Mapping[str, Any]]]
"""Operation and result, as JSON, of each tool call that succeeded, in order."""


class Output(BaseModel):
    """What every output carries. A subclass states its own fields, and `title` and `description` where a name is not enough."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    summary: str = Field("", description="One sentence on what was delivered.")
    confidence: float = Field(0.5, ge=0, le=1, description="How sure you are, 0 to 1.")
    evidence: list[str] = Field([], description="What it is based on.")

    def with_facts(self, results: Results) -> "Output":
        """The same with what the tools really gave."""
        return self


class Draft(Output):
    """A text, saved as a draft where it belongs."""

    title: str = Field(min_length=1, max_length=300)
    body: str = Field(min_length=1, description="The text, in `format`.")
    format: Literal["html", "markdown", "text"] = "html"
    locale: str = Field("en", pattern=r"^[a-z]{2,3}(-[A-Za-z0-9]{2,8})*$", description="BCP 47, such as en or de-AT.")
    excerpt: str = Field("", max_length=1000)
    assets: list[str] = Field([], description="Addresses of pictures and files that belong to it.")
    checks: list[str] = Field([], description="What a person should look at before publishing.")
    content_id: str = Field("", description="The draft's id in the content management system.")
    url: str = Field("", description="Where the draft is.")

    def with_facts(self, results: Results) -> "Draft":
        saved = [result for operation, result in results if operation in ("cms.create_draft", "cms.update_draft")]
        if saved:
            facts: dict[str, Any] = {"content_id": str(saved[-1]["id"]), "url": str(saved[-1].get("url", ""))}
        else:
            checks = [*self.checks, "It was not saved as a draft: see the run's tool calls."]
            facts = {"content_id": "", "url": "", "checks": checks}
        return self.model_copy(update=facts)


OUTPUTS: dict[str, type[Output]] = {
    cls.__name__: cls for cls in list(globals().values()) if isinstance(cls, type) and issubclass(cls, Output) and cls is not Output
}  # fmt: skip
