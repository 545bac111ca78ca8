"""Recipes: what an image is built from."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from vmlab_tui.base.errors import UsageError
from vmlab_tui.base.paths import config_dir, shipped
from vmlab_tui.checks.fields import (
    Bytes,
    Label,
    Line,
    Matching,
    Name,
    One,
    Package,
    Script,
    Seconds,
    UnixName,
)
from vmlab_tui.spec.loader import read_document
from vmlab_tui.spec.problems import SpecErrors, nearest
from vmlab_tui.spec.validate import require

BUILDER = 4
"""The builder's version: raised when the same recipe would give another image. Part of every hash."""

Word = Annotated[str, Matching(r"[A-Za-z0-9][A-Za-z0-9._=,:/+-]{0,127}", "one word such as console=ttyS0")]


Keyword = Annotated[str, Matching(r"[A-Za-z][A-Za-z0-9]{1,63}", "an sshd_config keyword such as UseDNS")]


class Recipe(BaseModel):
    """How to build a Debian image that boots by itself (BIOS, serial console, cloud-init with NoCloud)."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    schema_: One = Field(alias="schema", description="version of this file format")
    name: Name = Field(description="the image's name in the store")
    description: Line = Field("", description="one line for lists")
    suite: Annotated[str, Matching(r"[a-z][a-z0-9-]{1,31}", "a suite such as bookworm")] = Field(
        description="Debian suite, by code name"
    )
    arch: Literal["amd64"] = Field("amd64", description="Debian architecture")
    components: tuple[Literal["main", "contrib", "non-free", "non-free-firmware"], ...] = Field(
        ("main",), description="archive components"
    )
    variant: Literal["essential", "apt", "minbase", "important", "standard"] = Field(
        "minbase", description="mmdebstrap's variant: what is installed beside `packages`"
    )
    kernel: Package = Field("linux-image-cloud-amd64", description="kernel package")
    kernel_arguments: tuple[Word, ...] = Field(
        ("console=tty0", "console=ttyS0,115200"), description="added to the kernel's command line"
    )
    packages: tuple[Package, ...] = Field((), description="everything else to install")
    size: Bytes = Field(4 * 1024**3, description="virtual size of the disk; a VM's disk can only be larger")
    user: UnixName = Field("lab", description="the login user with passwordless sudo, made by cloud-init")
    locale: Word = Field("C.UTF-8", description="the guest's locale")
    timezone: Word = Field("Etc/UTC", description="the guest's time zone")
    sshd: dict[Keyword, Label] = Field(default={}, description="sshd_config settings, keyword: value")
    hooks: tuple[Script, ...] = Field((), description="shell scripts run as root in the new root, in order")
    compress: bool = Field(False, description="compress the finished disk (smaller, slower to build and run)")
    timeout: Seconds = Field(1800.0, description="time limit of the whole build, boot proof included")


@dataclass(frozen=True)
class RecipeRef:
    """A recipe that was found; ``problem`` says why it cannot be used ("" when it can)."""

    name: str
    path: Path
    description: str
    problem: str = ""


def _folders() -> tuple[Path, ...]:
    return (Path("images"), Path("profiles/images"), config_dir() / "images", shipped() / "images")


def load_recipe(ref: str | Path) -> Recipe:
    """The recipe in a file, or the one called ``ref`` here, in the configuration folder or shipped.

    Raises SpecErrors (all problems of the file) and UsageError (no such recipe, with the nearest name).
    """
    path = Path(ref)
    if not (isinstance(ref, Path) or "/" in ref or path.suffix in (".yaml", ".yml")):
        known = {one.name: one.path for one in find_recipes()}
        if ref not in known:
            close = nearest(ref, known)
            raise UsageError(
                f"there is no recipe '{ref}'",
                hint=f"did you mean '{close}'?" if close else f"known: {', '.join(sorted(known)) or 'none'}",
            )
        path = known[ref]
    return require(read_document(path), Recipe)


def find_recipes() -> list[RecipeRef]:
    """All recipes that can be named, nearest place first; a name in a nearer place hides farther ones."""
    found: dict[str, RecipeRef] = {}
    for folder in _folders():
        for path in sorted(folder.glob("*.yaml")) if folder.is_dir() else ():
            if path.stem in found:
                continue
            try:
                recipe = load_recipe(path)
            except SpecErrors as error:
                found[path.stem] = RecipeRef(path.stem, path, "", f"{len(error.problems)} problems")
            except UsageError as error:
                found[path.stem] = RecipeRef(path.stem, path, "", error.message)
            else:
                found[path.stem] = RecipeRef(path.stem, path, recipe.description)
    return list(found.values())


def has_recipe(name: str) -> bool:
    """Whether an image of this name can be built by name."""
    return any(one.name == name and not one.problem for one in find_recipes())


def recipe_hash(recipe: Recipe) -> str:
    """SHA-256 (hex) of everything that decides the image: the recipe as canonical JSON, and the builder."""
    data = recipe.model_dump(mode="json", by_alias=True, exclude={"description", "timeout"})
    text = json.dumps({"builder": BUILDER, "recipe": data}, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def recipe_schema() -> dict[str, object]:
    """The JSON Schema of a recipe, for editors."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Recipe.model_json_schema()}
