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
    kind, context, location = error["type"], error.get("ctx") or {}, tuple(error["loc"])
    if of_key := bool(location) and location[-1] == "[key]":
        location = location[:-1]
    place, here = _follow(model, location)
    value = place[-1] if of_key else error.get("input")
    close = ""
    if kind == "extra_forbidden":
        names = fields_of(owner) if (owner := _model(_follow(model, location[:-1])[1])) else []
        allowed = f"the fields {', '.join(names)}"
        close = nearest(place[-1], names)
        found = "an unknown field"
        if (
            place not in document.given
        ):  # a value from the command line may be a secret put in the wrong place
            found += f" ({short(value)})"
        return document.problem(place, found, allowed, close, key=True), place
    if kind == "missing":
        return document.problem(place, "nothing", "a value (this field is required)"), place
    if kind == "literal_error":
        allowed = str(context["expected"]).replace("'", "").replace(" or ", ", ").replace("True", "true")
        close = nearest(value, allowed.split(", "))
    elif kind == "one_of":
        names, allowed = str(context["names"]).split(","), str(context["allowed"])
        close = next((near for key in _keys(value) if (near := nearest(key, names))), "")
    elif kind == "value_error":
        allowed = str(context["error"])
    else:
        allowed = str(error["msg"]).replace("Input should be ", "").replace("Value should have ", "")
        allowed = _PLAIN.get(kind, allowed)
        if kind in ("model_type", "model_attributes_type") and (wanted := _model(here)):
            allowed = f"a mapping with {', '.join(fields_of(wanted))}"
    return document.problem(place, short(value), allowed, close, key=of_key), place


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


def _follow(model: Any, location: tuple[str | int, ...]) -> tuple[Place, Any]:
    """Pydantic's ``location`` without the names of union members, and the type that stands there."""
    place: list[str | int] = []
    here: Any = model
    for part in location:
        bare = _bare(here)
        member = _member(bare, part)
        if member is not None:
            here = member
            continue
        place.append(part)
        here = _inside(bare, part)
    return tuple(place), here


def _model(annotation: Any) -> type[BaseModel] | None:
    here = _bare(annotation)
    return here if isinstance(here, type) and issubclass(here, BaseModel) else None


def _bare(annotation: Any) -> Any:
    """The type without its annotations and without the None of an optional one."""
    while get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if get_origin(annotation) in (Union, types.UnionType):
        rest = [one for one in get_args(annotation) if one is not type(None)]
        if len(rest) == 1:
            return _bare(rest[0])
    return annotation


def _member(union: Any, tag: str | int) -> Any:
    """The member of a union that has this tag; None when ``union`` is none or has no such member."""
    if get_origin(union) not in (Union, types.UnionType):
        return None
    for member in get_args(union):
        if any(isinstance(extra, Tag) and extra.tag == tag for extra in getattr(member, "__metadata__", ())):
            return member
    return None


def _inside(here: Any, part: str | int) -> Any:
    """The type of what stands at ``part`` in a model, list or mapping; None when it is not known."""
    if (model := _model(here)) is not None:
        for name, info in model.model_fields.items():
            if part == (info.alias or name):
                extras = tuple(info.metadata)
                annotated: Any = Annotated
                return annotated[(info.annotation, *extras)] if extras else info.annotation
        return None
    arguments = get_args(here)
    if get_origin(here) in (tuple, list) and isinstance(part, int):
        return arguments[0]
    return arguments[1] if get_origin(here) is dict else None
