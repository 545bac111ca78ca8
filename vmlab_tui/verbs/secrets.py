"""Keeping secrets off the command line, where every user of the machine can read them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from vmlab_tui.base.errors import UsageError
from vmlab_tui.verbs.verb import Args, blocking

if TYPE_CHECKING:
    from vmlab_tui.runs.client import RunView

_TELLING = {"TOKEN", "SECRET", "PASSWORD", "PASSWD", "PASSPHRASE", "CREDENTIAL", "CREDENTIALS", "APIKEY"}


def refuse_values(names: Iterable[str]) -> None:
    """Raise UsageError for ``--env NAME=value``. The value is not repeated in the message."""
    for name in names:
        if "=" in name:
            key = name.partition("=")[0]
            raise UsageError(
                f"--env {key}=... is refused: it takes only a name",
                hint="every user of this machine can read a command line, and the shell's history keeps it;\n"
                f"export {key} and write --env {key}, or put it into a file for --env-file",
            )


async def secrets_again(view: RunView, args: Args) -> dict[str, str]:
    """The secrets of a run that was started before, from --env and --env-file: they are stored nowhere.

    Nothing when it has none. Raises UsageError.
    """
    if not view.plan.secret_names:
        return {}
    from vmlab_tui.spec.env import resolve_env

    env = await blocking(
        lambda: resolve_env(
            view.plan.profile,
            (*args.many("env"), *args.typed),
            args.path("env_file"),
            {**view.plan.env, **os.environ, **args.typed},
        )
    )
    return dict(env.secret)


async def refuse_secret_sets(profile: str, sets: Mapping[str, str]) -> None:
    """Raise UsageError when ``--set env.NAME=value`` would give a secret its value.

    Secret is what the profile lists as such, and what its name says. ``profile`` is a name or file, loaded
    without those settings; raises what loading raises.
    """
    from vmlab_tui.spec.profile import load_profile

    given = {key: key.rpartition(".")[2] for key in sets if _in_env(key)}
    if not given:
        return
    others = {key: value for key, value in sets.items() if key not in given}
    loaded = await blocking(lambda: load_profile(profile, others))
    for key, name in given.items():
        telling = bool(_TELLING & set(name.upper().split("_")))
        if name in loaded.profile.secret or telling:
            why = "its name says that it is a secret" if telling else "the profile lists it as a secret"
            raise UsageError(
                f"--set {key}=... is refused: {why}",
                hint="every user of this machine can read a command line, and the shell's history keeps it;\n"
                f"export {name} and write --env {name}, or put it into a file for --env-file",
            )


def _in_env(key: str) -> bool:
    parts = key.split(".")
    return len(parts) > 1 and parts[-2] == "env"
