"""A person's own settings: ``config.yaml`` in the configuration folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from vmlab_tui.base.paths import config_dir
from vmlab_tui.checks.fields import Matching, One
from vmlab_tui.spec.loader import read_document
from vmlab_tui.spec.validate import require

Folder = Annotated[
    str, Matching(r"(?:/|~/)[^\u0000-\u001f\u007f]*", "an absolute path, or one that begins with ~/")
]
Uri = Annotated[
    str, Matching(r"[a-z][a-z+]*:[^\s\u0000-\u001f\u007f]+", "a libvirt URI such as qemu:///system")
]


class _File(BaseModel):
    """Settings as written."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    schema_: One = Field(1, alias="schema", description="version of this file format")
    uri: Uri | None = Field(None, description="libvirt host that is used when none is named")
    store: Folder | None = Field(None, description="the lab directory")
    profiles: tuple[Folder, ...] = Field((), description="more folders with profiles")


class Settings(BaseModel):
    """Settings in effect; None means that vmlab chooses."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    uri: str | None = None
    store: Path | None = None
    profiles: tuple[Path, ...] = ()


def load_settings() -> Settings:
    """The person's settings, or the defaults when there is no file. Raises SpecErrors for a bad file."""
    path = config_dir() / "config.yaml"
    if not path.is_file():
        return Settings()
    written = require(read_document(path), _File)
    return Settings(
        uri=written.uri,
        store=Path(written.store).expanduser() if written.store else None,
        profiles=tuple(Path(folder).expanduser() for folder in written.profiles),
    )
