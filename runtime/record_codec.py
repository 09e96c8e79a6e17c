"""How an event becomes the bytes of a journal record, and back. Knows the event types; not where the bytes go."""

from __future__ import annotations

from typing import Any

import msgspec

from .core.events import AnyEvent, Event
from .errors import BadInput, GiveUp, JournalDamaged

_ENCODER = msgspec.msgpack.Encoder(order="deterministic")
_DECODER: msgspec.msgpack.Decoder[Any] = msgspec.msgpack.Decoder(tuple[float, AnyEvent])


def encode(now: float, event: Event) -> bytes:
    """Raises BadInput when a payload or a result in it has no encoding."""
    try:
        return _ENCODER.encode((now, event))
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        task = getattr(event, "task", "") or ", ".join(one.id for one in getattr(event, "tasks", ())[:3])
        raise BadInput(f"task {task!r}: a value that the journal must keep cannot be encoded: {error}") from error


def must_encode(value: Any) -> None:
    """Raises GiveUp when a handler's value has no encoding at all; what a journal keeps is `encode`'s business."""
    try:
        msgspec.msgpack.encode(value)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise GiveUp(f"the handler's value cannot be encoded: {error}") from error


def decode(record: bytes) -> tuple[float, Event]:
    """(seconds since the run was opened, event). Raises JournalDamaged."""
    try:
        now, event = _DECODER.decode(record)
    except msgspec.MsgspecError as error:
        raise JournalDamaged(f"a record is not an event this version knows: {error}") from error
    return now, event
