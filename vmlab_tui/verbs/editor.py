"""A text in the person's own editor."""

from __future__ import annotations

import os
import shlex
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from vmlab_tui.base.errors import LabError, UsageError
from vmlab_tui.verbs.verb import Context, blocking

if TYPE_CHECKING:
    from collections.abc import Sequence


def editor() -> list[str]:
    """The command: of config.yaml, $VISUAL, $EDITOR, or what is installed. Raises LabError without any."""
    from vmlab_tui.spec.settings import load_settings

    if chosen := load_settings().editor:
        return list(chosen)
    for name in ("VISUAL", "EDITOR"):
        if words := shlex.split(os.environ.get(name, "")):
            return words
    for name in ("sensible-editor", "nano", "vim", "vi"):
        if shutil.which(name):
            return [name]
    raise LabError("no editor is known", hint="export EDITOR=..., or set editor in config.yaml")


async def edit(ctx: Context, text: str, name: str) -> str:
    """What the person makes of ``text``; ``name`` tells the editor what kind of text it is.

    Raises UsageError without a terminal, LabError when the editor fails, or leaves what is no UTF-8 text:
    then nothing has been edited.
    """
    if not ctx.front.on_terminal:
        hint = "give the text: vmlab runs retry RUN --script FILE, or vmlab runs back RUN --script FILE"
        raise UsageError("there is no terminal to edit on", hint=hint)
    argv: Sequence[str] = editor()
    with tempfile.TemporaryDirectory(prefix="vmlab-edit-") as folder:
        path = Path(folder, name)
        await blocking(lambda: path.write_text(text, encoding="utf-8"))
        status = await ctx.front.program([*argv, str(path)])
        if status:
            raise LabError(f"the editor {argv[0]} ended with status {status}", hint="nothing was changed")
        try:
            return await blocking(lambda: path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise LabError("the editor left no readable text", hint="nothing was changed") from error
