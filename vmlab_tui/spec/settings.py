"""A person's own settings: ``config.yaml`` in the configuration folder."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

from vmlab_tui.base.paths import config_dir
from vmlab_tui.checks.fields import Bytes, Matching, One, Seconds

if TYPE_CHECKING:
    from vmlab_tui.spec.loader import Document


class _Words:
    """A command as one text, split as a shell would, or as a list of its words; no shell runs it."""

    allowed = "a command such as less -R, or a list of its words"

    def check(self, value: Any) -> tuple[str, ...]:
        if isinstance(value, str):
            try:
                words = tuple(shlex.split(value))
            except ValueError as error:
                raise ValueError(f"{self.allowed} ({str(error).lower()})") from error
        elif isinstance(value, list | tuple) and all(isinstance(word, str) for word in value):
            words = tuple(value)
        else:
            raise ValueError(self.allowed)
        if not words or not words[0] or not all(word.isprintable() for word in words):
            raise ValueError(self.allowed)
        return words

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self.check)

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}


Command = Annotated[tuple[str, ...], _Words()]
BUDGET = 20 << 30
"""Bytes for templates and the memory in snapshots where nobody says."""
Theme = Literal["dark", "light", "ansi"]
Notify = Literal["terminal", "desktop", "off"]
Folder = Annotated[
    str, Matching(r"(?:/|~/)[^\u0000-\u001f\u007f]*", "an absolute path, or one that begins with ~/")
]
Uri = Annotated[
    str, Matching(r"[a-z][a-z+]*:[^\s\u0000-\u001f\u007f]+", "a libvirt URI such as qemu:///system")
]


class ImageRule(BaseModel):
    """Images whose name begins with ``prefix`` are disposable, but for the newest ``keep``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    prefix: Annotated[str, Matching(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", "the beginning of an image's name")]
    keep: Annotated[int, Field(ge=0, le=10_000)] = 1
    older: Seconds = 7 * 86400.0
    """Only images that are this many seconds old."""


class CleanRules(BaseModel):
    """What counts as garbage, beside ``budget``. Sizes in bytes, ages in seconds, ``share`` in percent."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    watch: tuple[Folder, ...] = Field((), description="more folders whose disks may stand on ours")
    hosts: tuple[Uri, ...] = Field((), description="libvirt hosts that share these folders")
    images: tuple[ImageRule, ...] = Field((), description="images that may be thrown away")
    runs_keep: Annotated[int, Field(ge=0, le=1_000_000)] = Field(200, description="newest runs that stay")
    runs_older: Seconds = Field(30 * 86400.0, description="age at which the others may go")
    trash_older: Seconds = Field(7 * 86400.0, description="age at which the trash is emptied")
    trash_size: Bytes = Field(20 << 30, description="what the trash may hold")
    items: Annotated[int, Field(ge=1, le=100_000)] = Field(200, description="things one clean-up may take")
    share: Annotated[int, Field(ge=1, le=100)] = Field(80, description="percent of the store it may take")


class _File(BaseModel):
    """Settings as written."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    schema_: One = Field(1, alias="schema", description="version of this file format")
    uri: Uri | None = Field(None, description="libvirt host that is used when none is named")
    store: Folder | None = Field(None, description="the lab directory")
    profiles: tuple[Folder, ...] = Field((), description="more folders with profiles")
    budget: Bytes = Field(
        BUDGET, description="disk that templates and the memory in snapshots may take; the oldest go first"
    )
    theme: Theme = Field("dark", description="colours of the screens; ansi: the terminal's own")
    notify: Notify = Field("terminal", description="how the end of a run is told beside the screen")
    pager: Command | None = Field(None, description="opens a log (default: $PAGER)")
    editor: Command | None = Field(None, description="opens a file (default: $VISUAL, $EDITOR)")
    viewer: Command | None = Field(None, description="shows a VM's screen (default: remote-viewer)")
    clean: CleanRules = Field(CleanRules(), description="what a clean-up calls garbage, and its bounds")


class Settings(BaseModel):
    """Settings in effect; None means that vmlab chooses. Commands are argument lists."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    uri: str | None = None
    store: Path | None = None
    profiles: tuple[Path, ...] = ()
    budget: int = BUDGET
    theme: Theme = "dark"
    notify: Notify = "terminal"
    pager: tuple[str, ...] | None = None
    editor: tuple[str, ...] | None = None
    viewer: tuple[str, ...] | None = None
    clean: CleanRules = CleanRules()


def load_settings() -> Settings:
    """The person's settings, or the defaults when there is no file. Raises SpecErrors for a bad file."""
    path = config_dir() / "config.yaml"
    if not path.is_file():
        return Settings()
    from vmlab_tui.spec.loader import read_document  # late: most have no file, and YAML takes its time
    from vmlab_tui.spec.validate import require

    written = require(_off_is_off(read_document(path)), _File)
    return Settings(
        uri=written.uri,
        store=Path(written.store).expanduser() if written.store else None,
        profiles=tuple(Path(folder).expanduser() for folder in written.profiles),
        budget=written.budget,
        theme=written.theme,
        notify=written.notify,
        pager=written.pager,
        editor=written.editor,
        viewer=written.viewer,
        clean=written.clean,
    )


def _off_is_off(document: Document) -> Document:
    """``notify: off`` without quotes: the one place where both readings of the word mean the same."""
    place = ("notify",)
    if isinstance(document.data, dict) and document.data.get("notify") == "off":
        return replace(
            document,
            problems=tuple(problem for problem in document.problems if problem.place != place),
            suspect=document.suspect - {place},
        )
    return document
