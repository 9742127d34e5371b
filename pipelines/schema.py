"""The JSON schema of the configuration, generated from its dataclasses; editors can use it."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import itertools
import textwrap
import types
import typing
from typing import Any, Literal, get_args, get_origin

from ..extract.settings import KINDS
from ..fuse.settings import ExperimentSettings
from .config import Config

PLAIN = {str: "string", int: "integer", float: "number", bool: "boolean"}


def json_schema(kind: Any = Config, *, swept: bool = False) -> dict[str, Any]:
    """Give the JSON schema (draft 2020-12) of a configuration dataclass.

    Args:
        kind: The dataclass.
        swept: Whether a list may stand in place of a value, for each of its values, as everywhere
            in experiments.
    """
    swept = swept or kind is ExperimentSettings
    hints = typing.get_type_hints(kind)
    fields = dataclasses.fields(kind)
    notes = {name: {"description": text} for name, text in field_notes(kind).items()}
    required = [
        f.name
        for f in fields
        if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    ]
    schema: dict[str, Any] = {
        "type": "object",
        "description": (kind.__doc__ or "").strip(),
        "additionalProperties": False,
        "properties": {
            f.name: {**_schema(hints[f.name], swept=swept), **notes.get(f.name, {})} for f in fields
        },
    }
    return {**schema, "required": required} if required else schema


def field_notes(kind: Any) -> dict[str, str]:
    """Give what stands under each field of a dataclass, for people."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(kind)))
    assert isinstance(tree.body[0], ast.ClassDef)
    body = tree.body[0].body
    notes: dict[str, str] = {}
    for before, node in itertools.pairwise(body):
        if isinstance(before, ast.AnnAssign) and isinstance(node, ast.Expr):
            assert isinstance(before.target, ast.Name)
            notes[before.target.id] = str(ast.literal_eval(node.value))
    return notes


def _schema(kind: Any, *, swept: bool = False) -> dict[str, Any]:
    one = _of_one(kind, swept=swept)
    return {"anyOf": [one, {"type": "array", "items": one, "minItems": 1}]} if swept else one


def _of_one(kind: Any, *, swept: bool) -> dict[str, Any]:
    origin = get_origin(kind)
    if dataclasses.is_dataclass(kind):
        schema = json_schema(kind, swept=swept)
        short = getattr(kind, "SHORT", None)
        return {"anyOf": [{"enum": list(short)}, schema]} if short else schema
    if origin is Literal:
        return {"enum": list(get_args(kind))}
    if origin is tuple:
        return {"type": "array", "items": _schema(get_args(kind)[0])}
    if origin is dict:
        inner = get_args(kind)[1]
        if get_origin(inner) is types.UnionType:
            patterns = {f"^{name}/.+": json_schema(settings) for name, settings in KINDS.items()}
            return {
                "type": "object",
                "patternProperties": patterns,
                "additionalProperties": False,
            }
        return {"type": "object", "additionalProperties": _schema(inner)}
    return {"type": PLAIN[kind]}
