"""A document against a pydantic model, every complaint turned into a :class:`Problem` with its place."""

from __future__ import annotations

import json
import types
from collections.abc import Mapping
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, Tag, ValidationError

from vmlab_tui.spec.loader import Document
from vmlab_tui.spec.problems import Place, Problem, SpecErrors, nearest, short

M = TypeVar("M", bound=BaseModel)


def validate(document: Document, model: type[M]) -> tuple[M | None, tuple[Problem, ...]]:
    """The model made of ``document``, or None, and all problems (those of the document included).

    Where the document has a problem already, the model's complaints about the same value are left out.
    """
    problems = list(document.problems)
    if not isinstance(document.data, dict):
        found = "nothing" if document.data is None else short(document.data)
        problems.append(document.problem((), found, f"a mapping with {', '.join(fields_of(model))}"))
        return None, tuple(problems)
    try:
        # strict, and as JSON: lists become tuples, and nothing else is converted behind one's back
        made = model.model_validate_json(json.dumps(document.data), strict=True)
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            problem, place = _translate(document, model, dict(detail))
            if not any(place[: len(bad)] == bad for bad in document.suspect):
                problems.append(problem)
        if not problems:  # cannot be, but a file must never pass with errors
            problems.append(document.problem((), "", str(error)))
        return None, tuple(problems)
    return made, tuple(problems)


def require(document: Document, model: type[M]) -> M:
    """Like :func:`validate`, raising SpecErrors with everything that is wrong."""
    made, problems = validate(document, model)
    if made is None or problems:
        raise SpecErrors(document.file, problems)
    return made


def fields_of(model: type[BaseModel]) -> list[str]:
    """The names a person may write in a mapping of this model."""
    return [info.alias or name for name, info in model.model_fields.items()]


def _translate(document: Document, model: type[BaseModel], error: dict[str, Any]) -> tuple[Problem, Place]:
    place = _place(document.data, error["loc"])
    kind, context = error["type"], error.get("ctx") or {}
    last = error["loc"][-1] if error["loc"] else ""
    if kind == "extra_forbidden":
        owner = _model_at(model, error["loc"][:-1])
        names = fields_of(owner) if owner else []
        allowed = f"no such field here; the fields are {', '.join(names)}"
        return document.problem(place, "", allowed, nearest(last, names), key=True), place
    if kind == "missing":
        place = (*place, str(last))
        return document.problem(place, "nothing", "a value (this field is required)"), place
    value = error.get("input")
    if place and place[-1] == "[key]":
        place = place[:-1]
        value = place[-1]
    if kind == "literal_error":
        allowed = str(context["expected"]).replace("'", "").replace(" or ", ", ")
        return document.problem(place, short(value), allowed, nearest(value, allowed.split(", "))), place
    if kind == "one_of":
        names = [str(name) for name in context["names"]]
        found = next((near for key in _keys(value) if (near := nearest(key, names))), "")
        return document.problem(place, short(value), str(context["allowed"]), found), place
    if kind == "value_error":
        allowed = str(context["error"])
    else:
        allowed = str(error["msg"]).replace("Input should be ", "").replace("Value should have ", "")
        allowed = _PLAIN.get(kind, allowed)
    return document.problem(place, short(value), allowed), place


_PLAIN = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "bool_type": "true or false",
    "float_type": "a number",
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "a mapping (name: value)",
    "model_type": "a mapping (name: value)",
}


def _keys(value: object) -> list[object]:
    return list(value) if isinstance(value, Mapping) else [value]


def _place(data: Any, location: tuple[str | int, ...]) -> Place:
    """The part of pydantic's location that exists in the document: it also names union members."""
    place: list[str | int] = []
    for position, part in enumerate(location):
        inside = (isinstance(data, dict) and isinstance(part, str) and part in data) or (
            isinstance(data, list) and isinstance(part, int) and part < len(data)
        )
        if inside:
            place.append(part)
            data = data[part]
        elif part == "[key]" and position == len(location) - 1:
            place.append(part)
    return tuple(place)


def _model_at(model: Any, location: tuple[str | int, ...]) -> type[BaseModel] | None:
    """The model that stands at pydantic's ``location``; None when there is none."""
    here: Any = model
    for part in location:
        here = _step(here, part)
    here = _bare(here)
    return here if isinstance(here, type) and issubclass(here, BaseModel) else None


def _bare(annotation: Any) -> Any:
    while get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if get_origin(annotation) in (Union, types.UnionType):
        rest = [one for one in get_args(annotation) if one is not type(None)]
        if len(rest) == 1:
            return _bare(rest[0])
    return annotation


def _step(annotation: Any, part: str | int) -> Any:
    here = _bare(annotation)
    if isinstance(here, type) and issubclass(here, BaseModel):
        for name, info in here.model_fields.items():
            if part == (info.alias or name):
                return Annotated[info.annotation, *info.metadata] if info.metadata else info.annotation
        return None
    if get_origin(here) in (Union, types.UnionType):
        for member in get_args(here):
            tags = [extra.tag for extra in getattr(member, "__metadata__", ()) if isinstance(extra, Tag)]
            if part in tags:
                return member
        return None
    arguments = get_args(here)
    if get_origin(here) in (tuple, list) and isinstance(part, int):
        return arguments[0]
    if get_origin(here) is dict:
        return arguments[1]
    return None
