"""Request bodies: decoded once, strictly, straight into their Struct."""

import re
from collections.abc import Generator
from typing import Any, ClassVar, cast

import msgspec
from litestar.dto import AbstractDTO, DTOConfig
from litestar.dto.data_structures import DTOFieldDefinition
from litestar.typing import FieldDefinition

from .call import ApiRequest
from .errors import InvalidFieldError, UnsupportedMediaTypeError
from .failures import body_error

# A NUL is valid JSON, and no PostgreSQL text: somebody's database behind us would choke on it.
_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")


class Body(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of every request body: what is not known is refused, so that a misspelt field is noticed."""


class StrictJson(AbstractDTO[Any]):
    """Litestar's hook for bodies. Its own way decodes to dicts first, and then takes "5" for a 5."""

    config: ClassVar[DTOConfig] = DTOConfig()
    _decoders: ClassVar[dict[str, msgspec.json.Decoder[Any]]] = {}
    # By the handler itself: its id is put together anew each time it is asked for.
    _decoder_of: ClassVar[dict[Any, msgspec.json.Decoder[Any]]] = {}

    def decode_bytes(self, value: bytes) -> Any:
        request = cast(ApiRequest, self.asgi_connection)
        require_json(request.call.headers.get(b"content-type", b""))
        handler = request.scope["route_handler"]
        decoder = self._decoder_of.get(handler)
        if decoder is None:
            decoder = self._decoder_of[handler] = self._decoders[handler.handler_id]
        return decode(decoder, value)

    @classmethod
    def create_for_field_definition(
        cls, field_definition: FieldDefinition, handler_id: str, backend_cls: object = None
    ) -> None:
        cls._decoders[handler_id] = msgspec.json.Decoder(field_definition.annotation)

    @classmethod
    def create_openapi_schema(cls, field_definition: FieldDefinition, handler_id: str, schema_creator: Any) -> Any:
        return schema_creator.for_field_definition(FieldDefinition.from_annotation(field_definition.annotation))

    @classmethod
    def is_supported_model_type_field(cls, field_definition: FieldDefinition) -> bool:
        return True

    @classmethod
    def generate_field_definitions(cls, model_type: type[Any]) -> Generator[DTOFieldDefinition, None, None]:
        yield from ()

    @classmethod
    def detect_nested_field(cls, field_definition: FieldDefinition) -> bool:
        return False


def require_json(content_type: bytes) -> None:
    """Raises UnsupportedMediaTypeError. Also keeps a foreign page's form from posting to us with the cookie."""
    if content_type == b"application/json":
        return
    media_type = content_type.partition(b";")[0].strip().lower()
    if media_type != b"application/json" and not (
        media_type.startswith(b"application/") and media_type.endswith(b"+json")
    ):
        raise UnsupportedMediaTypeError(content_type.decode("latin-1"))


def decode(decoder: msgspec.json.Decoder[Any], value: bytes) -> Any:
    """Raises a refusal that names the field."""
    if b"\\u0000" in value and _NUL.search(value):
        raise InvalidFieldError("A text holds the character NUL.", remedy="Leave the character \\u0000 out.")
    try:
        return decoder.decode(value)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise body_error(error) from error
