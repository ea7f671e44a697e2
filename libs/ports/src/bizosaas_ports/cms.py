"""CMSPort: pages and posts of a content management system."""

from datetime import datetime
from typing import Annotated, Literal, Protocol

import msgspec

from .operation import operation

ContentStatus = Literal["draft", "published", "scheduled", "private", "trashed"]


class Content(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    title: str
    status: ContentStatus
    url: str
    """Where readers find it; not yet readable by the public while it is a draft."""
    updated_at: datetime | None = None
    excerpt: str = ""
    body: str = ""
    """HTML; empty in lists."""


class ContentPage(msgspec.Struct, frozen=True, kw_only=True):
    items: list[Content]
    total: int
    next: str = ""
    """Cursor of the following page; empty: that was the last."""


class ListContent(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    search: str = ""
    status: ContentStatus | None = None
    limit: Annotated[int, msgspec.Meta(ge=1, le=100)] = 20
    cursor: str = ""


class GetContent(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    id: str


class CreateDraft(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    title: Annotated[str, msgspec.Meta(min_length=1)]
    body: str
    """HTML."""
    excerpt: str = ""


class UpdateDraft(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    id: str
    title: str | None = None
    body: str | None = None
    excerpt: str | None = None


class Publish(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    id: str


class Unpublish(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    id: str


class CMSPort(Protocol):
    """Content of one site. Lists come newest first; an unknown id raises ResourceNotFoundError."""

    @operation("read")
    async def list_content(self, request: ListContent) -> ContentPage:
        """List posts, newest first, without their bodies."""

    @operation("read")
    async def get_content(self, request: GetContent) -> Content:
        """Read one post with its body."""

    @operation("write")
    async def create_draft(self, request: CreateDraft) -> Content:
        """Create a post that only editors see."""

    @operation("write")
    async def update_draft(self, request: UpdateDraft) -> Content:
        """Change what is given of a draft; refused for published content."""

    @operation("send")
    async def publish(self, request: Publish) -> Content:
        """Make a draft readable by the public; done already is success."""

    @operation("send")
    async def unpublish(self, request: Unpublish) -> Content:
        """Take a post back to draft; done already is success."""
