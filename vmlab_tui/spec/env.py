"""The variables of a run: from the profile, the caller's environment and a file; secrets kept apart."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from vmlab_tui.base.errors import Refused, UsageError
from vmlab_tui.spec.model import Profile
from vmlab_tui.spec.problems import Problem, SpecErrors, nearest, short

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_TELLING = re.compile(
    r"(^|_)(TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIALS?|API_?KEY|PRIVATE_KEY)(_|$)", re.I
)


GIVE_VARIABLES = "export them before vmlab starts, or put NAME=value lines into a file (--env-file FILE)"
"""What to do about missing variables."""


@dataclass(frozen=True)
class RunEnv:
    """Variables of a run's scripts. ``secret`` values are never stored, shown or put on a command line."""

    public: Mapping[str, str] = field(default_factory=dict)
    secret: Mapping[str, str] = field(default_factory=dict, repr=False)
    missing: tuple[str, ...] = ()
    """What is not there, such as ``TOKEN is not set``: with any of these a run cannot begin."""


def is_secret(profile: Profile, name: str) -> bool:
    """Whether a variable is kept out of logs and files, because the profile or its name says so."""
    return name in profile.secret or bool(_TELLING.search(name))


def collect_env(
    profile: Profile,
    names: Iterable[str] = (),
    env_file: Path | None = None,
    environ: Mapping[str, str] = os.environ,
) -> RunEnv:
    """Collect the variables of a run, and what is missing.

    ``names`` (of ``--env``) come from ``environ``; a name beats the file, the file beats ``required`` from
    ``environ``, and all beat the profile's ``env``. Secret is what the profile lists as secret, and what the
    caller gives under a name that says so (``..._TOKEN``, ``..._PASSWORD``). Raises UsageError for
    ``NAME=value`` in ``names`` and SpecErrors for a bad file.
    """
    wanted = list(dict.fromkeys(names))
    for name in wanted:
        _check_name(name)
    given = _read_env_file(env_file, environ) if env_file else {}
    missing: list[str] = []
    for name in dict.fromkeys((*wanted, *profile.required)):
        if name in given and name not in wanted:
            continue
        value = environ.get(name)
        if value is None:
            missing.append(f"{name} is not set")
        elif not value and name in profile.required:
            missing.append(f"{name} is empty")
        elif "\0" in value or (not value.isascii() and value != value.encode("utf-8", "replace").decode()):
            missing.append(f"{name} is not UTF-8 text")
        else:
            given[name] = value
    missing += [f"{name} is empty" for name in profile.required if name in given and not given[name]]
    hidden = {name for name in given if is_secret(profile, name)}
    public = {**profile.env, **{name: value for name, value in given.items() if name not in hidden}}
    for name in hidden:
        public.pop(name, None)
    return RunEnv(public, {name: given[name] for name in sorted(hidden)}, tuple(missing))


def resolve_env(
    profile: Profile,
    names: Iterable[str] = (),
    env_file: Path | None = None,
    environ: Mapping[str, str] = os.environ,
) -> RunEnv:
    """As :func:`collect_env`, but raises Refused naming all variables that are missing."""
    env = collect_env(profile, names, env_file, environ)
    if env.missing:
        raise Refused(missing_variables(env), hint=GIVE_VARIABLES)
    return env


def missing_variables(env: RunEnv) -> str:
    """What is missing, in one line."""
    count = len(env.missing)
    plural = "variables this run needs are" if count > 1 else "variable this run needs is"
    return f"{count} {plural} missing: {', '.join(env.missing)}"


def _check_name(name: str) -> None:
    before, equals, _ = name.partition("=")
    if equals:
        shown = before if _NAME.fullmatch(before) else "NAME"
        raise UsageError(
            f"--env {shown}=... is refused: every user of this machine can read a value on a command line",
            hint=f"export {shown} in the shell and give --env {shown}, or use --env-file FILE",
        )
    if not _NAME.fullmatch(name):
        raise UsageError(f"--env {short(name)}: this is no variable's name", hint="letters, digits and '_'")


def _read_env_file(path: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """``NAME=value`` lines; the value is the rest of the line, less one pair of quotes around it.

    ``NAME`` alone takes the caller's value. Empty lines and lines with ``#`` first are left out.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(
            f"{path}: {error.strerror or error}", hint="check the path given to --env-file"
        ) from error
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{path}: it is not UTF-8 text", hint="check the path given to --env-file"
        ) from error
    out: dict[str, str] = {}
    problems: list[Problem] = []
    for number, line in enumerate(text.split("\n"), start=1):
        entry = line.strip().removeprefix("export ").lstrip()
        if not entry or entry.startswith("#"):
            continue
        name, equals, value = entry.partition("=")
        name = name.strip()
        # never shown: a line that is not understood may hold a secret
        if not _NAME.fullmatch(name):
            problems.append(Problem(str(path), number, 1, "", "a line that is not understood", "NAME=value"))
        elif name in out:
            problems.append(Problem(str(path), number, 1, name, "the name again", "each name once"))
        elif not equals and name not in environ:
            close = nearest(name, environ)
            problems.append(
                Problem(str(path), number, 1, name, "a name that is not set", "NAME=value", close)
            )
        elif "\0" in value:
            problems.append(Problem(str(path), number, 1, name, "a NUL character", "text without it"))
        else:
            value = value.strip()
            if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":
                value = value[1:-1]
            out[name] = value if equals else environ[name]
    if problems:
        raise SpecErrors(str(path), problems)
    return out
