"""Dataclasses as a JSON Schema, and JSON that is checked against it and read into them.

A field's type and what `within` adds to it say what the field may be. The schema that is published
and the check of every file that is opened both follow from them, so they cannot differ.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import re
import types
import typing
from typing import Annotated, Any

JSONSchema = dict[str, Any]

_TYPES = {str: "string", int: "integer", float: "number", bool: "boolean", type(None): "null"}
_WORDS = {
    "string": "a text", "integer": "a whole number", "number": "a number",
    "boolean": "true or false", "array": "a list", "object": "an object", "null": "null",
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Within:
    """What `within` says, for `Annotated`."""

    keywords: tuple[tuple[str, Any], ...]
    without: str | None

    def schema(self) -> JSONSchema:
        """The same as JSON Schema."""
        other = {} if self.without is None else {"not": {"pattern": self.without}}
        return {**dict(self.keywords), **other}


def within(*, without: str | None = None, **keywords: Any) -> Within:
    """What a type alone does not say.

    Args:
        without: a pattern that a text must not have anywhere.
        keywords: of JSON Schema, such as ``minimum=1``.
    """
    return Within(tuple(keywords.items()), without)


def parse(text: str) -> Any:
    """The value of a JSON text, which has no key twice and no NaN or Infinity.

    Raises:
        ValueError: it is not such a text, or too deep to be read.
    """
    try:
        return json.loads(text, parse_constant=_no_number, object_pairs_hook=_once)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is no number")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key is there twice")
    return found


@functools.cache
def json_schema(cls: type) -> JSONSchema:
    """The JSON Schema of a dataclass, which takes its fields and no others.

    What its docstring says of each attribute is the description. A dataclass may add keywords of
    its own as ``ALSO``.
    """
    defs: JSONSchema = {}
    return {**_object(cls, defs), "$defs": defs}


def _object(cls: type, defs: JSONSchema) -> JSONSchema:
    hints, said = _hints(cls), _said(cls)
    properties = {name: _schema(hint, defs) for name, hint in hints.items()}
    for name, text in said.items():
        properties[name] = {**properties[name], "description": text}
    return {
        "type": "object",
        "additionalProperties": False,
        "required": list(properties),
        "properties": properties,
        **getattr(cls, "ALSO", {}),
    }


def _schema(hint: Any, defs: JSONSchema) -> JSONSchema:
    origin, inside = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        made = _schema(inside[0], defs)
        for one in inside[1:]:
            made |= one.schema()
        return made
    if origin is typing.Literal:
        return {"enum": list(inside)}
    if origin in (typing.Union, types.UnionType):
        return {"anyOf": [_schema(one, defs) for one in inside]}
    if origin is tuple:
        return {"type": "array", "items": _schema(inside[0], defs)}
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        defs.setdefault(hint.__name__, _object(hint, defs))
        return {"$ref": f"#/$defs/{hint.__name__}"}
    return {"type": _TYPES[hint]}


@functools.cache
def _hints(cls: type) -> dict[str, Any]:
    hints = typing.get_type_hints(cls, include_extras=True)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls)}


def _said(cls: type) -> dict[str, str]:
    """What a docstring says of each attribute, as plain text."""
    _, _, listed = (cls.__doc__ or "").partition("Attributes:\n")
    entries = re.findall(r"^ {8}(\w[\w, ]*): (.+(?:\n {9,}.+)*)", listed, re.MULTILINE)
    return {
        name: " ".join(text.replace("``", "").split())
        for names, text in entries
        for name in names.split(", ")
    }


def problem(schema: JSONSchema, value: Any) -> str | None:
    """The first thing in a JSON value that is not as its schema says; None if all is.

    Args:
        schema: of `json_schema`.
        value: of `parse`.
    """
    return next(_problems(schema, value, "", schema["$defs"]), None)


def _problems(schema: JSONSchema, value: Any, place: str, defs: JSONSchema) -> typing.Iterator[str]:
    if "$ref" in schema:
        yield from _problems(defs[schema["$ref"].rpartition("/")[2]], value, place, defs)
    subject = place or "it"
    kind = schema.get("type")
    if kind is not None and not _is(kind, value):
        yield f"{subject} is {_shown(value)}, not {_WORDS[kind]}"
        return
    if "anyOf" in schema:
        found = [next(_problems(one, value, place, defs), None) for one in schema["anyOf"]]
        if None not in found:
            null = value is not None and {"type": "null"} in schema["anyOf"]
            yield str(found[0]) if null else f"{subject} is {_shown(value)}, which is no choice"
    for keyword, limit in schema.items():
        wrong = _BROKEN.get(keyword)
        if wrong is not None and wrong[0](value, limit):
            yield f"{subject} is {_shown(value)}, {wrong[1].format(limit)}"
    if isinstance(value, list) and "items" in schema:
        for index, one in enumerate(value):
            yield from _problems(schema["items"], one, f"{place}[{index}]", defs)
    if isinstance(value, dict):
        properties = schema.get("properties", {})
        for name in schema.get("required", ()):
            if name not in value:
                yield f"{subject} lacks {name!r}"
        for name, one in value.items():
            if name in properties:
                yield from _problems(properties[name], one, f"{place}.{name}".lstrip("."), defs)
            elif schema.get("additionalProperties") is False:
                yield f"{subject} has {_shown(name)}, which is no field"


def _is(kind: str, value: Any) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    if kind == "number":
        return isinstance(value, int | float) and abs(value) <= _LARGEST
    if kind == "integer":
        return isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    kinds: dict[str, type] = {"string": str, "array": list, "object": dict, "null": type(None)}
    return kind in kinds and isinstance(value, kinds[kind])


_LARGEST = 1.7e308  # as a float; JSON itself has no limit

_BROKEN: dict[str, tuple[typing.Callable[[Any, Any], bool], str]] = {
    "const": (lambda value, only: not _same(value, only), "not {!r}"),
    "enum": (lambda value, all_: not any(_same(value, one) for one in all_), "not one of {}"),
    "minimum": (lambda value, least: value < least, "below {}"),
    "maximum": (lambda value, most: value > most, "above {}"),
    "minItems": (lambda value, least: len(value) < least, "shorter than {}"),
    "maxItems": (lambda value, most: len(value) > most, "longer than {}"),
    "minLength": (lambda value, least: len(value) < least, "shorter than {}"),
    "maxLength": (lambda value, most: len(value) > most, "longer than {}"),
    "pattern": (lambda value, pattern: not re.search(pattern, value), "not like {}"),
    "not": (lambda value, other: bool(re.search(other["pattern"], value)), "with what is no text"),
}
"""Keyword -> whether a value of the right type breaks it, and the words for it."""


def _same(value: Any, other: Any) -> bool:
    return bool(value == other) and isinstance(value, bool) == isinstance(other, bool)


def _shown(value: Any) -> str:
    """A value, or the beginning of it, on one line."""
    if isinstance(value, int) and abs(value) > 10**30:  # Python writes no more than 4300 digits
        return "a number of too many digits"
    text = ascii(value) if isinstance(value, str) else json.dumps(value, default=str)[:200]
    return text if len(text) <= 60 else f"{text[:57]}..."


def read(hint: Any, value: Any) -> Any:
    """A JSON value, right by its schema, as an object of its dataclass.

    Args:
        hint: the dataclass.
        value: of `parse`, without a `problem`.
    """
    origin, inside = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return read(inside[0], value)
    if origin in (typing.Union, types.UnionType):
        return None if value is None else read(inside[0], value)
    if origin is tuple:
        return tuple(read(inside[0], one) for one in value)
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        hints = _hints(hint)
        return hint(**{name: read(one, value[name]) for name, one in hints.items()})
    return hint(value) if hint in (int, float) else value
