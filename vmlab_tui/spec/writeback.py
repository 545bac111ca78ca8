"""Writing one script back into a profile's text, so that all the rest stays as a person wrote it."""

from __future__ import annotations

import json
import re
from typing import Any

import yaml

from vmlab_tui.base.errors import LabError

_LITERAL = re.compile(r"[^\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ufeff\ud800-\udfff]*")
"""What may stand in a block of YAML as it is."""


def replace_script(text: str, index: int, script: str, *, expect: tuple[str, ...] = ()) -> str:
    """The profile ``text`` with ``script`` as the script of step ``index`` (from 0); nothing else changes.

    ``expect``: the scripts that may be there now. Raises LabError when another is, when there is none, or
    when the text cannot be changed in this way; then nothing should be written.
    """
    key, value, flow = _find(text, index)
    if expect and value.value not in expect:
        raise LabError(
            f"the script of step {index + 1} of the profile has changed meanwhile: it is not overwritten"
        )
    start, end = value.start_mark.index, value.end_mark.index
    if flow or not _LITERAL.fullmatch(script):
        new = json.dumps(script, ensure_ascii=False) + _blank_end(text[start:end])
    else:
        remark = ""
        if value.style not in ("|", ">"):  # a remark behind it goes behind the block's sign
            stop = text.find("\n", end) if "\n" in text[end:] else len(text)
            remark, end = text[end:stop], stop
        new = _block(text[start:end], script, key.start_mark.column, value.style, remark)
    changed = text[:start] + new + text[end:]
    wanted = script if flow else _ended(script)
    if _find(changed, index)[1].value not in (script, wanted):
        raise LabError("the profile's text cannot be changed without rewriting it", hint="edit it by hand")
    return changed


def _find(text: str, index: int) -> tuple[Any, Any, bool]:
    """The key ``run`` of a step, its value, and whether it stands inside braces. Raises LabError."""
    try:
        root: Any = yaml.compose(text, Loader=yaml.SafeLoader)
        pairs = {key.value: value for key, value in root.value}
        step = pairs["steps"].value[index]
        key, value = next((key, value) for key, value in step.value if key.value == "run")
    except (
        yaml.YAMLError,
        AttributeError,
        KeyError,
        IndexError,
        TypeError,
        StopIteration,
        ValueError,
    ) as error:
        raise LabError(f"step {index + 1} of the profile has no script any more") from error
    if not isinstance(value, yaml.ScalarNode):
        raise LabError(f"the script of step {index + 1} is in a file of its own")
    return key, value, bool(step.flow_style or pairs["steps"].flow_style or root.flow_style)


def _ended(script: str) -> str:
    """With exactly one newline at its end, which a block gives it."""
    return script.rstrip("\n") + "\n"


def _blank_end(old: str) -> str:
    """The newlines at the end of a block: they part it from what follows."""
    return "\n" * old.count("\n", len(old.rstrip()))


def _block(old: str, script: str, column: int, style: str | None, remark: str) -> str:
    """``script`` as a literal block, indented as the old one was. ``column``: where its key stands."""
    lines = _ended(script).split("\n")[:-1]
    indent = column + 2
    if style in ("|", ">"):
        first = next((line for line in old.split("\n")[1:] if line.strip()), "")
        indent = max(column + 1, len(first) - len(first.lstrip(" ")))
    # a first line that is indented itself would be taken for the block's indentation
    told = f"|{indent - column}" if lines[0][:1] in (" ", "") else "|"
    body = "\n".join(" " * indent + line if line else "" for line in lines)
    return f"{told}{remark}\n{body}{_blank_end(old) if style in ('|', '>') else ''}"
