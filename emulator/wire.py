"""Protobuf's JSON: check the names and values of a message.

Both spellings of a name are accepted (`taskType`, `task_type`). Null means unset. An integer may
be a string, and an enum a number.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from typing import Any

from bulkembed.emulator.api_errors import ApiError, bad_field
from bulkembed.schemas.models import TaskType

TASK_NUMBERS = {
    1: TaskType.RETRIEVAL_QUERY,
    2: TaskType.RETRIEVAL_DOCUMENT,
    3: TaskType.SEMANTIC_SIMILARITY,
    4: TaskType.CLASSIFICATION,
    5: TaskType.CLUSTERING,
    6: TaskType.QUESTION_ANSWERING,
    7: TaskType.FACT_VERIFICATION,
    8: TaskType.CODE_RETRIEVAL_QUERY,
}
"""Source: google/ai/generativelanguage/v1beta/generative_service.proto."""

PART = frozenset({
    "text", "inlineData", "fileData", "functionCall", "functionResponse", "executableCode",
    "codeExecutionResult", "thought", "thoughtSignature", "videoMetadata", "mediaResolution",
})  # fmt: skip
CONTENT = frozenset({"parts", "role"})
BLOB = frozenset({"mimeType", "data", "displayName"})
FILE_DATA = frozenset({"mimeType", "fileUri", "displayName"})


class Message:
    """A JSON object, read as a message with certain fields."""

    def __init__(self, value: object, where: str, names: frozenset[str], kind: str = "") -> None:
        if not isinstance(value, dict):
            raise wrong_value(where, kind or "message", value)
        self.where = where
        self._values: dict[str, Any] = {}
        for key, one in value.items():
            name = _camel(key)
            if name not in names:
                raise unknown_name(key, where)
            if one is not None:
                self._values[name] = one

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def names(self) -> Set[str]:
        """Return the names of the fields that are set."""
        return self._values.keys()

    def get(self, name: str) -> Any:
        """Return the value as it is; None if unset."""
        return self._values.get(name)

    def text(self, name: str) -> str | None:
        """Return a string."""
        value = self.get(name)
        if value is not None and not isinstance(value, str):
            raise wrong_value(self.path(name), "TYPE_STRING", value)
        return value

    def flag(self, name: str) -> bool | None:
        """Return a bool."""
        value = self.get(name)
        if value is not None and not isinstance(value, bool):
            raise wrong_value(self.path(name), "TYPE_BOOL", value)
        return value

    def integer(self, name: str) -> int | None:
        """Return an int32; it may be a string, or a float without a fraction."""
        value = self.get(name)
        if value is None:
            return None
        try:
            number = int(value)
            exact = not isinstance(value, bool) and number == float(value)
        except (TypeError, ValueError, OverflowError):
            exact = False
        if not exact or abs(number) >= 1 << 31:
            raise wrong_value(self.path(name), "TYPE_INT32", value)
        return number

    def task_type(self, name: str = "taskType") -> TaskType | None:
        """Return a task type; None if unset or unspecified."""
        value = self.get(name)
        if value in (None, 0, "TASK_TYPE_UNSPECIFIED") and not isinstance(value, bool):
            return None
        if isinstance(value, int) and not isinstance(value, bool) and value in TASK_NUMBERS:
            return TASK_NUMBERS[value]
        if isinstance(value, str) and value in TaskType.__members__:
            return TaskType(value)
        kind = "type.googleapis.com/google.ai.generativelanguage.v1beta.TaskType"
        raise wrong_value(self.path(name), kind, value)

    def items(self, name: str) -> Iterator[tuple[object, str]]:
        """Yield the items of a list, each with its path."""
        value = self.get(name)
        for index, one in enumerate(value if isinstance(value, list) else [value]):
            if value is not None:
                yield one, self.path(f"{name}[{index}]")

    def path(self, name: str) -> str:
        """Return the path of a field from the root."""
        name = _snake(name)
        return f"{self.where}.{name}" if self.where else name


def unknown_name(name: str, where: str) -> ApiError:
    """Return the 400 for an unknown field."""
    at = f" at '{where}'" if where else ""
    return bad_field(
        where, f'Invalid JSON payload received. Unknown name "{name}"{at}: Cannot find field.'
    )


def wrong_value(where: str, kind: str, value: object) -> ApiError:
    """Return the 400 for a value of the wrong type."""
    shown = f'"{value}"' if isinstance(value, str) else repr(value)
    return bad_field(where, f"Invalid value at '{where}' ({kind}), {shown[:200]}")


def second_of_oneof(where: str, name: str) -> ApiError:
    """Return the 400 for a second field of those of which a message has one."""
    return bad_field(
        where,
        f"Invalid value at '{where}' (oneof), oneof field 'data' is already set. "
        f"Cannot set '{name}'",
    )


def check_names(names: Mapping[str, str], allowed: frozenset[str]) -> None:
    """Raise ApiError for an unknown query parameter."""
    for name in names:
        if name not in allowed:
            raise bad_field(
                "",
                f'Invalid JSON payload received. Unknown name "{name}": '
                "Cannot bind query parameter. "
                f"Field '{name}' could not be found in request message.",
            )


def _camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(part[:1].upper() + part[1:] for part in rest)


def _snake(name: str) -> str:
    return "".join(f"_{one.lower()}" if one.isupper() else one for one in name)
