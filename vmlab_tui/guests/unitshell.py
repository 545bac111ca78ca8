"""The shell programs behind ``units``: plain POSIX sh, so that BusyBox will do.

In the guest a unit is a directory under /var/lib/vmlab/units: ``script``, ``run`` (the wrapper), ``log``,
``pid`` (process, its start time and the boot: the claim that it has been started, made once by link(2)),
``status`` (how the script ended, written when its last output is in the log), ``cwd`` and ``env``
(NUL-separated) as they were when the script ended, and as far as its shell tells it the ``command`` that
ended it, or its ``line``.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

ROOT = "/var/lib/vmlab/units"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
SECRETS = "/run/vmlab"
MARK = "vmlab-unit:"
"""Begins the line on standard error that says where the unit stands: phase, detail, place in the log."""

LOST = "vmlab: No space left on device for what it printed: some of that is lost"
"""Stands in the log of a script that filled its disk."""

_SHELLS = {"sh", "bash", "dash", "ash", "ksh", "mksh"}
_quote = shlex.quote


def exports(env: Mapping[str, str]) -> str:
    return "".join(f"export {name}={_quote(value)}\n" for name, value in env.items())


BASH = (
    "( [ ! -L /bin/bash ] && read -r first </bin/bash && "
    "case $first in *ELF*) ;; *) false ;; esac ) 2>/dev/null"
)
"""Whether the guest has bash, without starting a program: no link to BusyBox, and no script of that name.

In a process of its own: a script's variable called ``first`` stays what it is.
"""
PLAIN = f"shell=/bin/sh; if {BASH}; then shell=/bin/bash; fi"
"""Sets $shell to the one that runs scripts without an interpreter line."""


@dataclass(frozen=True)
class Start:
    """The command line that runs a script. ``first``: what a file that ``BASH_ENV`` names has to hold."""

    command: str
    first: str = ""


def shell_of(script: str) -> list[str] | None:
    """The shell that runs ``script``, with its options; None for a script of another interpreter.

    Without an interpreter line the shell is ``""``, the one that :data:`PLAIN` finds: bash where the guest
    has it, since it tells which command failed, else sh; with ``-e``, since a step that goes on after an
    error would be reported as passed.
    """
    if not script.startswith("#!"):
        return ["", "-e"]
    words = script.split("\n", 1)[0][2:].split()
    if len(words) > 1 and words[0].endswith("/env"):
        words = words[1:]
    name = words[0].rpartition("/")[2] if words else ""
    if name not in _SHELLS or any(not re.fullmatch(r"-[A-Za-z]+", word) for word in words[1:]):
        return None
    return words


def starts(script: str, path: str, folder: str, hidden: list[str], bash_env: str = "") -> tuple[Start, ...]:
    """The ways to run the script at ``path`` and have it note where it ended.

    Two for one without an interpreter line: for a guest with bash, and without. Shell scripts run under a
    trap that saves the working directory and the environment without ``hidden``; others are executed as they
    are. bash tells the trap a script's own commands only if it runs the script and does not source it, hence
    :attr:`Start.first`. Other shells do source it; of these only BusyBox knows the line it was at.
    ``bash_env``: the script's own such file, which is read then.
    """
    words = shell_of(script)
    if words is None:
        return (Start(_quote(path)),)
    shells = (words[0],) if words[0] else ("/bin/bash", "/bin/sh")
    return tuple(_start([one, *words[1:]], path, folder, hidden, bash_env) for one in shells)


def _start(words: list[str], path: str, folder: str, hidden: list[str], bash_env: str) -> Start:
    forget = f"unset {' '.join(hidden)}; " if hidden else ""
    # a place that cannot be saved, on a full disk, must not become the script's exit status: || :
    # /proc/self/environ rather than export -p: exact, and the same from every shell
    save = f"pwd >{folder}/cwd; ({forget}exec cat /proc/self/environ >{folder}/env)"
    if words[0].rpartition("/")[2] == "bash":
        save = f'{{ {save}; printf %s "$BASH_COMMAND" >{folder}/command; }} 2>/dev/null || :'
        # without an ERR trap bash takes the command before a failing ( ) for the one that failed
        env = f"export BASH_ENV={_quote(bash_env)}" if bash_env else "unset BASH_ENV"
        first = f"{{ {env}; trap : ERR; trap {_quote(save)} EXIT; }} 2>/dev/null\n"
        return Start(shlex.join([*words, path]), first + ('. "$BASH_ENV"\n' if bash_env else ""))
    save = f'{{ {save}; echo "${{LINENO-}}" >{folder}/line; }} 2>/dev/null || :'
    return Start(shlex.join([*words, "-c", f'trap {_quote(save)} EXIT; . "$0"', path]))


def become(user: str, command: str) -> str:
    """Shell text for root that goes on as ``user`` with the command line ``command``; wants $uid and $gid."""
    if user == "root":
        return f"exec {command}"
    return (
        "if setpriv --help 2>&1 | grep -q -e --reuid; then\n"
        f'  exec setpriv --reuid "$uid" --regid "$gid" --init-groups -- {command}\n'
        "else\n"
        f"  exec su -s /bin/sh {_quote(user)} -c {_quote('exec ' + command)}\n"
        "fi"
    )


def _begin(folder: str, user: str, ways: Sequence[Start]) -> str:
    """Shell text that becomes the script, by the first of ``ways`` if it is the only one or bash is there."""
    texts = [
        f"export BASH_ENV={folder}/first\n{become(user, way.command)}"
        if way.first
        else become(user, way.command)
        for way in ways
    ]
    return texts[0] if len(texts) == 1 else f"if {BASH}; then\n{texts[0]}\nfi\n{texts[1]}"


def wrapper(folder: str, user: str, env: Mapping[str, str], script: str, ways: Sequence[Start]) -> str:
    """The program that runs as the unit, as root; its argument is the file with the secrets, if any.

    ``ways`` come from :func:`starts`.

    Programs are started sparingly here and below: an emulated guest needs 20-60 ms for each.

    Output goes through a named pipe that belongs to the user, since a script may open /dev/stdout again: on
    a file that would cut it, on somebody else's pipe it is refused. What a script leaves running in the
    background keeps the pipe open; it is given two seconds to finish its output, then not waited for.
    """
    name = _quote(user)
    own = ""
    if user != "root":
        own = f'uid=$(id -u {name}) && gid=$(id -g {name}) && chown "$uid:$gid" log out cwd env command line'
    if first := ways[0].first:
        own = f"printf %s {_quote(first)} >first\n{own}"
    runnable = " && chmod 755 script" if ways[0].command == _quote(f"{folder}/script") else ""
    return f"""#!/bin/sh
secrets=$1
unset INVOCATION_ID JOURNAL_STREAM SYSTEMD_EXEC_PID MEMORY_PRESSURE_WATCH MEMORY_PRESSURE_WRITE
export PATH={PATH}
cd {folder} || exit
umask 077
exec 9>>lock
# held while the unit lives, so that whoever follows it can wait instead of asking again and again
command -v flock >/dev/null 2>&1 && flock -n 9
read -r boot </proc/sys/kernel/random/boot_id
read -r stat </proc/$$/stat
set -- ${{stat##*) }}
echo "$$ ${{20}} $boot" >pid.$$
: >>log
ln pid.$$ pid 2>/dev/null || {{ rm -f pid.$$ "$0" $secrets; exit 0; }}
# a power cut after this point must read back as "started, end unknown", never as "not started"
sync pid . 2>/dev/null || sync
mkfifo out; : >cwd; : >env; : >command; : >line
# on a disk that the script fills, its last words and its end still find room
printf '%08192d\n' 0 >spare; echo '   ' >end
umask 022
printf %s {_quote(script)} >script{runnable}
{own}
eval "HOME=~{user}"
export HOME USER={name} LOGNAME={name} SHELL=/bin/sh
{exports(env)}if [ -n "$secrets" ]; then
  . "$secrets"
  rm -f "$secrets"
fi
(
  trap '' HUP INT TERM
  exec <out 2>/dev/null
  # what cannot be kept is read all the same, or the script would be killed by its own output
  cat >>log || {{ rm -f spare; {{ echo {_quote(LOST)}; cat; }} >>log || cat >/dev/null; }}
) 9>&- &
copier=$!
(
  exec 9>&- </dev/null >out 2>&1
  cd "$HOME" 2>/dev/null || cd /
  {_begin(folder, user, ways)}
)
status=$?
n=0 stat=
# mostly the copier is done at once; looking costs less than starting a timer
while [ $n -lt 300 ] && {{ read -r stat <"/proc/$copier/stat"; }} 2>/dev/null; do
  case ${{stat##*) }} in Z*) break ;; esac
  n=$((n + 1))
done
if [ $n = 300 ]; then
  trap : USR1
  (sleep 2; kill -USR1 $$) </dev/null >/dev/null 2>&1 9>&- &
  wait $copier
  kill $! 2>/dev/null
fi
echo $status 1<>end
mv end status
exec 9>&-
rm -f out spare pid.$$ "$0"
"""


_STATE = f"""
say() {{ echo "{MARK} $*" >&2; }}
alive() {{ # is process $p, started at $t, still there; with an argument also as a zombie
  zombie=${{1:-Z}}
  {{ read -r stat </proc/$p/stat; }} 2>/dev/null || return 1
  set -- ${{stat##*) }}
  [ "${{20}}" = "$t" ] && [ "$1" != "$zombie" ]
}}
look() {{ # sets phase and detail
  phase=absent detail=-
  [ -e "$D/pid" ] || return
  read -r p t b <"$D/pid"
  read -r now </proc/sys/kernel/random/boot_id
  if [ -e "$D/status" ] && read -r detail <"$D/status"; then phase=ended
  elif [ "$b" != "$now" ]; then phase=lost detail=boot
  elif alive; then phase=running
  elif [ -e "$D/status" ] && read -r detail <"$D/status"; then phase=ended
  elif [ -e "$D/killed" ]; then phase=running detail=killed # whoever ends it is about to write how
  else phase=lost detail=died; fi
}}
nap() {{ sleep "$1" 2>/dev/null || sleep 1; }}
"""

# One channel carries the whole log: no polling over the network, and the end is told at once, because the
# lock that the wrapper holds is waited for. The end does not depend on it: without flock(1) (Debian's BusyBox
# has none) it is seen at the next look, and looks are not as far apart. fd 3 keeps its place in the
# log between one cat and the next.
_FOLLOW = """
follow() {
  offset=$1
  exec 3<"$D/log" || { say lost log 0; return; }
  tail -c +$((offset + 1)) <&3 || return
  trap : USR1
  waker=
  if command -v flock >/dev/null 2>&1; then
    (flock -s 8; kill -USR1 $$) 8<"$D/lock" </dev/null >/dev/null 2>&1 3<&- &
    waker=$!
  fi
  at=- pause=0.2
  while :; do
    look
    cat <&3 || return
    [ $phase = running ] || break
    read -r _ pos <"/proc/$$/fdinfo/3"
    if [ "$pos" != "$at" ]; then at=$pos pause=0.2
    else case $pause$waker in 0.2*) pause=0.4 ;; 0.4) ;; 0.4*) pause=0.7 ;; *) pause=1 ;; esac; fi
    nap $pause </dev/null >/dev/null 2>&1 3<&- &
    wait $!
  done
  [ -z "$waker" ] || kill $waker 2>/dev/null
  read -r _ pos <"/proc/$$/fdinfo/3"
  exec 3<&-
  say $phase $detail $pos
}
"""


def _program(folder: str, *parts: str) -> bytes:
    """A program for ``sh -s``: a function called on its last line, so that a cut one does nothing."""
    body = "\n".join(parts)
    return f"D={folder}\n{_STATE}{_FOLLOW}\nmain() {{\n{body}\n}}\nmain\nexit\n".encode(
        errors="surrogateescape"
    )


def _in_memory(name: str, text: str) -> str:
    """Put ``text`` into a file of root's that lives in memory only, and its path into $S."""
    return f"""
  S={SECRETS} kind=
  [ -d $S ] || mkdir -m 700 $S
  while read -r _ at type _; do case $S/ in "$at"/*) kind=$type ;; esac; done </proc/mounts
  case $kind in
    tmpfs|ramfs) ;;
    *) mount -t tmpfs -o size=4m,mode=700 tmpfs $S || {{ say failed secrets 0; return; }} ;;
  esac
  S=$S/{name}.$$
  printf %s {_quote(text)} >$S || {{ rm -f $S; say failed secrets 0; return; }}"""


def leave(name: str, text: str, seconds: float) -> bytes:
    """Leave ``text`` in such a file and print its path; gone after ``seconds`` if nobody has taken it."""
    return _program(
        "/",
        f"""
umask 077{_in_memory(name, text)}
(trap '' HUP; sleep {max(1, round(seconds))}; rm -f $S) </dev/null >/dev/null 2>&1 &
echo $S""",
    )


def start(folder: str, name: str, user: str, run: str, secrets: str, *, offset: int | None) -> bytes:
    """Start the unit unless it has been started; with ``offset`` follow it in the same breath."""
    keep = ""
    if secrets:
        keep = _in_memory(name, secrets)
    begin = f"""
if [ ! -e "$D/pid" ]; then
  [ {_quote(user)} = root ] || id -u {_quote(user)} >/dev/null 2>&1 || {{ say failed user 0; return; }}
  umask 066
  mkdir -p "$D" && cd "$D" || {{ say failed folder 0; return; }}
  umask 077
  printf %s {_quote(run)} >run.$$ || {{ say failed write 0; return; }}
  S={keep}
  started=
  set -- /bin/sh "$D/run.$$" $S
  if [ -d /run/systemd/system ] && command -v systemd-run >/dev/null 2>&1; then
    for more in OOMPolicy=continue TimeoutStopSec=10; do
      systemd-run --quiet --no-block --collect --unit={name} -p KillMode=process -p $more \\
        -- "$@" </dev/null >/dev/null 2>&1 && started=1 && break
    done
  fi
  # a second one of the same unit finds the claim taken, so trying both ways is safe
  if [ -z "$started" ]; then
    set -- env -i "$@"
    if command -v setsid >/dev/null 2>&1; then setsid "$@" </dev/null >/dev/null 2>&1 &
    else (trap '' HUP; exec "$@") </dev/null >/dev/null 2>&1 & fi
  fi
  n=0
  while [ ! -e pid ] && [ $n -lt 300 ]; do nap 0.05; n=$((n + 1)); done
  cd /
  [ -e "$D/pid" ] || {{ say failed start 0; return; }}
  say started - 0
else
  say already - 0
fi
"""
    return _program(folder, begin, "" if offset is None else f"follow {offset}")


def follow(folder: str, offset: int) -> bytes:
    return _program(folder, "look", f"if [ $phase = absent ]; then say absent - 0; else follow {offset}; fi")


def state(folder: str) -> bytes:
    return _program(
        folder, 'look; size=0; [ ! -e "$D/log" ] || size=$(wc -c <"$D/log"); say $phase $detail $size'
    )


def kill(folder: str, name: str, grace: float) -> bytes:
    """End every process of the unit, by its control group where it has one and by its session."""
    return _program(
        folder,
        f"""
pids() {{
  for f in /sys/fs/cgroup /sys/fs/cgroup/systemd; do
    f=$f/system.slice/{name}.service/cgroup.procs
    [ ! -r $f ] || cat $f
  done
  # a process number is not used again while a session has it; another process under it means all are gone
  [ ! -e /proc/$p ] || alive or-zombie || return
  for f in /proc/[0-9]*/stat; do
    {{ read -r line <$f; }} 2>/dev/null || continue
    set -- ${{line##*) }}
    [ "$4" != "$p" ] || [ "$1" = Z ] || echo ${{line%% *}}
  done
}}
finish() {{ # signal, tries
  n=0 told=' '
  while left=$(pids) && [ -n "$left" ] && [ $n -lt $2 ]; do
    for one in $left; do # each once, and who has been started meanwhile too
      case $1$told in TERM*" $one "*) ;; *) kill -$1 $one 2>/dev/null; told="$told$one " ;; esac
    done
    n=$((n + 1)); nap 0.2
  done
  [ -z "$left" ]
}}
look
rm -f {SECRETS}/{name}.*
if [ $phase = running ] || [ "$detail" = died ]; then
  mark=143
  : >"$D/killed"
  finish TERM {max(1, round(grace / 0.2))} || {{ mark=137; finish KILL 25; }}
  [ -e "$D/status" ] || {{ echo $mark 1<>"$D/end" && mv "$D/end" "$D/status"; }}
  rm -f "$D/end" "$D/out" "$D/spare" "$D"/run.*
  look
fi
say $phase $detail 0""",
    )
