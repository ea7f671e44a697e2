"""What travels to Temporal and back: msgspec Structs as plain JSON, readable on Temporal's page."""

from typing import Any

import msgspec
from temporalio.api.common.v1 import Payload
from temporalio.converter import (
    BinaryNullPayloadConverter,
    CompositePayloadConverter,
    DataConverter,
    EncodingPayloadConverter,
)


class MsgspecPayloadConverter(EncodingPayloadConverter):
    """JSON by msgspec, checked against the type hint when it is read."""

    @property
    def encoding(self) -> str:
        return "json/plain"

    def to_payload(self, value: Any) -> Payload:
        return Payload(metadata={"encoding": self.encoding.encode()}, data=msgspec.json.encode(value))

    def from_payload(self, payload: Payload, type_hint: type | None = None) -> Any:
        try:
            return msgspec.json.decode(payload.data, type=Any if type_hint is None else type_hint)
        except msgspec.DecodeError as error:
            raise RuntimeError(f"the payload does not fit {type_hint}: {error}") from error


class PayloadConverter(CompositePayloadConverter):
    def __init__(self) -> None:
        super().__init__(BinaryNullPayloadConverter(), MsgspecPayloadConverter())


DATA_CONVERTER = DataConverter(payload_converter_class=PayloadConverter)
