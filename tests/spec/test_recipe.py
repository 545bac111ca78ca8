"""Recipes and settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from vmlab_tui.base.errors import UsageError
from vmlab_tui.base.paths import shipped
from vmlab_tui.spec import recipe as recipes
from vmlab_tui.spec.problems import SpecErrors
from vmlab_tui.spec.recipe import Recipe, find_recipes, load_recipe, recipe_hash, recipe_schema
from vmlab_tui.spec.settings import load_settings

SHIPPED = sorted((shipped() / "images").glob("*.yaml"))


def write(folder: Path, **more: Any) -> Path:
    path = folder / "mine.yaml"
    data = {
        "schema": 1,
        "name": "mine",
        "suite": "bookworm",
        "packages": ["curl", "g++"],
        "size": "3GiB",
        **more,
    }
    path.write_text(yaml.safe_dump(data))
    return path


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_recipes_are_good(path: Path) -> None:
    recipe = load_recipe(path)
    assert recipe.name == path.stem
    jsonschema.validate(yaml.safe_load(path.read_text()), recipe_schema())


def test_a_recipe(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path))
    assert (recipe.name, recipe.size, recipe.packages) == ("mine", 3 * 1024**3, ("curl", "g++"))
    assert Recipe.model_validate_json(recipe.model_dump_json(by_alias=True)) == recipe


def test_all_problems_at_once(tmp_path: Path) -> None:
    path = write(tmp_path, siute="x", packages=["a b", "; rm -rf /", "-o"], variant="minbas", size="big")
    with pytest.raises(SpecErrors) as caught:
        load_recipe(path)
    fields = {problem.field for problem in caught.value.problems}
    assert fields == {"siute", "packages[0]", "packages[1]", "packages[2]", "variant", "size"}
    assert "did you mean 'minbase'?" in str(caught.value)


def test_the_hash_is_of_what_decides_the_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = recipe_hash(load_recipe(write(tmp_path)))
    assert first == recipe_hash(load_recipe(write(tmp_path, description="words only", timeout="1h")))
    assert first == recipe_hash(load_recipe(write(tmp_path, size=3 * 1024**3)))
    others: list[dict[str, Any]] = [
        {"packages": ["g++", "curl"]},
        {"suite": "trixie"},
        {"compress": True},
        {"hooks": ["true"]},
        {"user": "u"},
    ]
    hashes = {recipe_hash(load_recipe(write(tmp_path, **more))) for more in others}
    monkeypatch.setattr(recipes, "BUILDER", 10_000)
    hashes.add(recipe_hash(load_recipe(write(tmp_path))))
    assert len(hashes) == len(others) + 1
    assert first not in hashes


def test_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VMLAB_CONFIG", str(tmp_path / "config"))
    (tmp_path / "config" / "images").mkdir(parents=True)
    write(tmp_path / "config" / "images", description="found")
    (tmp_path / "config" / "images" / "broken.yaml").write_text("schema: 1\n")
    found = {ref.name: ref for ref in find_recipes()}
    assert (found["mine"].description, found["mine"].problem) == ("found", "")
    assert found["broken"].problem
    assert load_recipe("mine").name == "mine"
    with pytest.raises(UsageError) as caught:
        load_recipe("mien")
    assert "mine" in caught.value.hint


def test_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VMLAB_CONFIG", str(tmp_path))
    assert load_settings().uri is None
    config = tmp_path / "config.yaml"
    config.write_text("schema: 1\nuri: qemu:///session\nstore: ~/lab\nprofiles: [/srv/profiles]\n")
    settings = load_settings()
    assert settings.uri == "qemu:///session"
    assert settings.store == Path.home() / "lab"
    assert settings.profiles == (Path("/srv/profiles"),)
    config.write_text("uri: here\nstore: lab\nprofils: []\n")
    with pytest.raises(SpecErrors) as caught:
        load_settings()
    assert {problem.field for problem in caught.value.problems} == {"uri", "store", "profils"}
