"""A shell where a script step ended: its folder, its environment, its user.

What is private travels on standard input into files of root's in the guest's memory and is read from there
once: it is in no argument list and on no disk, of the host as of the guest.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence

from vmlab_tui.base.errors import LabError
from vmlab_tui.base.text import clean_line
from vmlab_tui.guests import unitshell as shell
from vmlab_tui.guests.ssh import Guest
from vmlab_tui.guests.units import Place, UnitSpec

PATIENCE = 60.0
"""Seconds after which what nobody has taken is gone."""
_quote = shlex.quote
_OWN = frozenset(
    {"PWD", "SHLVL", "_", "UID", "EUID", "PPID", "SHELLOPTS", "BASHOPTS", "BASH_VERSINFO", "OPTIND"}
)
"""What a shell sets itself, or does not let itself be told."""


def opening(spec: UnitSpec, place: Place, greeting: Sequence[str] = ()) -> str:
    """Shell text that goes to ``place`` and on as a shell there, or, with arguments, as that command.

    Where the script has not told its place, it is the one it began in. ``greeting``: lines for a person. The
    last command of bash's history is the one that ended the script; nothing that is typed is kept on a disk.
    """
    env = place.env if place.known else spec.environment
    lines = [] if place.known else [f'eval "HOME=~{spec.user}"', "export HOME"]
    lines.append(f"cd {_quote(place.cwd)} || cd /" if place.cwd else 'cd "$HOME" 2>/dev/null || cd /')
    # after cd, which sets OLDPWD; a script without one has none here either
    lines += [
        "unset OLDPWD",
        shell.exports({name: env[name] for name in env if name not in _OWN}).rstrip("\n"),
    ]
    startup = [r"PS1='\u@\h:\w\$ '", "unset HISTFILE", "exec 5<&-"]
    if place.command:
        startup.append(f"history -s -- {_quote(place.command)}")
    lines += [
        'if [ $# = 1 ]; then exec /bin/sh -c "$1"; elif [ $# -gt 0 ]; then exec "$@"; fi',
        *(f"printf '%s\\n' {_quote(clean_line(line))}" for line in greeting),
        '[ -z "$vmlab_terminal" ] || export TERM="$vmlab_terminal"',
        # there are systems with something else of that name
        "if [ -n \"$(bash -c 'echo $BASH_VERSION' 2>/dev/null)\" ]; then",
        "exec bash --noprofile --rcfile /dev/fd/5 5<<'VMLAB'",
        *startup,
        "VMLAB",
        "fi",
        "exec /bin/sh",
    ]
    return "\n".join(lines) + "\n"


async def leave(guest: Guest, name: str, text: str, *, seconds: float = PATIENCE) -> str:
    """Put shell ``text`` into a file of root's in the guest's memory; its path. Gone after ``seconds``."""
    done = await guest.execute("exec /bin/sh -s", data=shell.leave(name, text, seconds))
    path = done.out.decode(errors="replace").strip()
    if done.status or not path.startswith(f"{shell.SECRETS}/"):
        raise LabError(
            f"{guest.endpoint.label}: the guest keeps nothing in memory for a shell: {clean_line(done.err)}"
        )
    return path


async def leave_opening(
    guest: Guest, spec: UnitSpec, place: Place, greeting: Sequence[str] = (), *, seconds: float = PATIENCE
) -> str:
    """Leave :func:`opening` in the guest, for :func:`shell_here`."""
    return await leave(guest, f"{spec.name}.here", opening(spec, place, greeting), seconds=seconds)


async def leave_secrets(guest: Guest, secrets: Mapping[str, str], *, seconds: float = PATIENCE) -> str:
    """Leave secrets in the guest, for the same; its path, or ``""`` where there are none."""
    return await leave(guest, "secrets", shell.exports(secrets), seconds=seconds) if secrets else ""


def shell_here(
    path: str, secrets: str, command: Sequence[str], *, user: str = "root", login: str = "lab"
) -> list[str]:
    """The command for `terminal.ssh_argv` that takes what was left at ``path`` and goes on as it says.

    ``secrets``: the path of what else was left, or ``""``. Both files are gone before anything else is run.
    ``command``: words for the step's environment instead of a shell; one word is a line for ``/bin/sh``.
    """
    text = 'text=$(cat <&4; cat <&3); exec 3<&- 4<&-; vmlab_terminal=$TERM; unset TERM; eval "$text"'
    words = shlex.join(["/bin/sh", "-c", text, "sh", *command])
    name = _quote(user)
    launch = f"""
here={_quote(path)} secrets={_quote(secrets)}
[ -r "$here" ] || {{ echo "nobody came for the place within its time: ask once more" >&2; exit 255; }}
exec 3<"$here" 4<"${{secrets:-/dev/null}}" || exit 255
rm -f "$here" $secrets
uid=$(id -u {name}) && gid=$(id -g {name}) || exit 255
{shell.become(user, f'env -i PATH={shell.PATH} TERM="$TERM" {words}')}
"""
    line = f"/bin/sh -c {_quote(launch)}"
    return [line if login == "root" else f"sudo -n {line}"]
