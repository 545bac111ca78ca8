"""A copied guest becomes a machine of its own: name, keys, machine id, random numbers, the time of day."""

from __future__ import annotations

import asyncio
import secrets
import time
from dataclasses import dataclass, replace

from pydantic import JsonValue

from vmlab_tui.base.deadlines import Deadline
from vmlab_tui.base.errors import DeadlineError, LabError
from vmlab_tui.base.text import clean_line
from vmlab_tui.guests.keys import HostKey, new_host_key
from vmlab_tui.guests.ssh import Guest
from vmlab_tui.hosts.agentexec import JUST_BACK, agent_exec
from vmlab_tui.hosts.host import Host


@dataclass(frozen=True)
class Identity:
    """What tells a guest from its siblings. ``machine_id``: 32 hexadecimal digits."""

    hostname: str
    host_key: HostKey
    machine_id: str


def new_identity(hostname: str) -> Identity:
    """A fresh one. Blocks for some 15 ms."""
    return Identity(hostname, new_host_key(), secrets.token_hex(16))


# Under emulation each program that is started costs more than all of the shell's own words here, so what the
# shell can do itself it does. The seed's instance id stays, so cloud-init has nothing to do over at a boot.
_SCRIPT = r"""
PATH=$PATH:/usr/sbin:/usr/bin:/sbin:/bin
note() { echo "note $*"; }
put() { printf '%s' "$2" 2>/dev/null >"$1" || note "$1"; }
nl='
'
read -r name; read -r id; read -r mix; read -r seed; read -r public
key=
while IFS= read -r line; do
  key=$key$line$nl
  case $line in -----END*) break ;; esac
done
echo ready
read -r now
date -u -s "@$now" >/dev/null 2>&1 || date -u -s "@${now%.*}" >/dev/null 2>&1 || note clock

put /dev/urandom "$mix"
set -- /sys/bus/acpi/drivers/vmgenid/*:*
[ -e "$1" ] || {  # else the kernel has stirred by itself when it woke
  perl -e 'open(F, ">", "/dev/urandom") && ioctl(F, 0x5207, 0) or exit 1' 2>/dev/null ||
    python3 -c 'import fcntl; fcntl.ioctl(open("/dev/urandom", "wb"), 0x5207)' 2>/dev/null ||
    note "random numbers: the kernel takes fresh ones within a minute only"
} &

read -r old </proc/sys/kernel/hostname
put /proc/sys/kernel/hostname "$name"
put /etc/hostname "$name$nl"
cloud=/var/lib/cloud/instance/cloud-config.txt
if [ -e $cloud ]; then  # at a boot, cloud-init believes what it remembers before it looks at the seed
  text=
  while IFS= read -r line || [ -n "$line" ]; do
    case $line in
      "hostname: "*) line="hostname: $name" ;;
      "fqdn: "*) line="fqdn: $name" ;;
    esac
    text=$text$line$nl
  done <$cloud
  put $cloud "$text"
  put /var/lib/cloud/data/set-hostname "{\"fqdn\": \"$name\", \"hostname\": \"$name\"}"
fi
text= named=
while IFS= read -r line || [ -n "$line" ]; do
  case $line in
    '#'*) ;;
    *"$old"*)
      words=
      for word in $line; do
        case $word in
          "$old") word=$name named=1 ;;
          "$old".*) word=$name${word#"$old"} ;;
        esac
        words="$words $word"
      done
      line=${words# } ;;
  esac
  text=$text$line$nl
done 2>/dev/null </etc/hosts
[ -n "$named" ] || text="${text}127.0.1.1 $name$nl"
put /etc/hosts "$text"

put /etc/machine-id "$id$nl"
if [ -e /var/lib/dbus/machine-id ] && [ ! -L /var/lib/dbus/machine-id ]; then
  put /var/lib/dbus/machine-id "$id$nl"
fi

umask 077
if [ -d /var/lib/systemd ]; then put /var/lib/systemd/random-seed "$seed"; fi
if [ -e /etc/ssh/sshd_config ]; then
  own=/etc/ssh/ssh_host_ed25519_key others=
  put $own "$key"
  umask 022
  put $own.pub "$public$nl"
  for file in /etc/ssh/ssh_host_*; do
    case $file in $own | $own.pub) ;; *) others="$others $file" ;; esac
  done
  [ -z "$others" ] || rm -f $others
  # up to 9.7 each connection reads the keys anew; later ones are handed them by the listener
  for file in /usr/lib/openssh /usr/libexec/openssh /usr/libexec /usr/lib/ssh; do
    if [ -e $file/sshd-session ] && read -r pid </run/sshd.pid; then kill -HUP "$pid"; break; fi
  done
elif [ -e /run/dropbear.pid ]; then
  read -r pid </run/dropbear.pid
  words=$(tr '\0' '\n' </proc/"$pid"/cmdline)
  file=${words#*"$nl"-r"$nl"}
  case $words in
    *"$nl"-F"$nl"*"$nl"-r"$nl"*) file=${file%%"$nl"*} ;;
    *) file= ;;
  esac
  put /run/vmlab-key "$key"
  if [ -n "$file" ] && dropbearconvert openssh dropbear /run/vmlab-key "$file.new" >/dev/null 2>&1; then
    mv "$file.new" "$file"
    kill "$pid"  # what runs it in the foreground starts it anew; sessions are processes of their own
    for n in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
      read -r other </run/dropbear.pid && [ "$other" != "$pid" ] && break
      sleep 0.1
    done
  else
    note "host key: dropbear's cannot be changed here"
  fi
  rm -f /run/vmlab-key
else
  note "host key: no SSH server that is known"
fi
wait
echo done
sync </dev/null >/dev/null 2>&1 &
"""
_NO_AGENT = 5.0


class NoAgent(LabError):
    """The guest has no agent that would run a program; nothing has been done."""


def _lines(identity: Identity) -> bytes:
    lines = [
        identity.hostname,
        identity.machine_id,
        secrets.token_hex(64),
        secrets.token_hex(512),
        identity.host_key.public.strip(),
        identity.host_key.private.strip(),
    ]
    return "".join(f"{line}\n" for line in lines).encode()


def _now() -> bytes:
    return f"{time.time():.6f}\n".encode()


def _notes(label: str, said: list[bytes], problem: bytes, hint: str) -> tuple[str, ...]:
    if not said or said[-1].strip() != b"done":
        raise LabError(
            f"{label}: the guest could not be given an identity of its own: {clean_line(problem, 300)}",
            hint=hint,
        )
    return tuple(clean_line(one[5:], 200).strip() for one in said if one.startswith(b"note "))


def keeps_host_key(notes: tuple[str, ...]) -> bool:
    """Whether a guest of which that could not be set still has the host key it had."""
    return any("host key" in note or "ssh_host" in note for note in notes)


async def assume(guest: Guest, identity: Identity, *, timeout: float = 30) -> tuple[str, ...]:
    """Make the guest ``identity``'s, over the connection it has (it was made with the old pin).

    Sets clock, host name, machine id, random seeds and the SSH host key, so that ours is the only one it has.
    Returns what could not be set, in words; empty when all is. The connection goes on; once the host key is
    in place, ``guest.endpoint`` carries the new pin for the next one. Raises LabError, DeadlineError, and
    Dropped, after which the guest may have the old key or the new one.
    """
    label = guest.endpoint.label
    try:
        async with asyncio.timeout(timeout), guest.process(_SCRIPT, timeout=timeout) as process:
            with guest.translated():
                process.stdin.write(_lines(identity))
                said = [await process.stdout.readline()]
                if said[0].strip() == b"ready":
                    process.stdin.write(_now())  # now that the shell is there
                    while said[-1] and said[-1].strip() != b"done":
                        said.append(await process.stdout.readline())
                problem = b"" if said[-1] else await process.stderr.read(4096)
    except TimeoutError as error:
        raise DeadlineError(f"{label}: no identity of its own within {timeout:g} s") from error
    notes = _notes(label, said, problem, "the login user needs sudo without a password")
    if not keeps_host_key(notes):
        guest.endpoint = replace(guest.endpoint, host_key=identity.host_key.public)
    return notes


async def assume_by_agent(
    host: Host, uuid: str, identity: Identity, *, timeout: float = 30
) -> tuple[str, ...]:
    """The same through the QEMU guest agent, which is there before anybody has logged in.

    Raises NoAgent where there is none, or one that may not run programs: then nothing has been done.
    """
    deadline = Deadline(timeout)
    try:
        known = await host.agent(uuid, "guest-info", timeout=deadline.part(_NO_AGENT), patience=JUST_BACK)
    except LabError as error:
        raise NoAgent(error.message, hint=error.hint) from error
    if not _may_run(known):
        raise NoAgent(f"{uuid}: its guest agent may not run programs")
    argv = ["/bin/sh", "-c", _SCRIPT]
    ran = await agent_exec(host, uuid, argv, deadline, data=_lines(identity) + _now())
    return _notes(uuid, ran.out.splitlines(), ran.err, "see what its guest agent says: journalctl")


async def become(
    guest: Guest, host: Host, uuid: str, identity: Identity, *, timeout: float = 30
) -> tuple[str, ...]:
    """:func:`assume_by_agent` on the VM ``uuid``, or :func:`assume` where it has no agent.

    ``guest`` is connected with the old pin and carries the new one afterwards. Returns and raises as they do.
    """

    async def either() -> tuple[str, ...]:
        try:
            notes = await assume_by_agent(host, uuid, identity, timeout=timeout)
        except NoAgent:
            notes = None
        if notes is None or keeps_host_key(notes):  # an agent may be locked in
            notes = await assume(guest, identity, timeout=timeout)
        return notes

    # a first session takes a guest as long as the rest: it has several CPUs, perhaps
    first = guest.execute("true", user=guest.endpoint.user, timeout=timeout)
    notes, _ = await asyncio.gather(either(), first)
    if not keeps_host_key(notes):
        guest.endpoint = replace(guest.endpoint, host_key=identity.host_key.public)
    return notes


def _may_run(known: JsonValue) -> bool:
    commands = known.get("supported_commands") if isinstance(known, dict) else None
    return isinstance(commands, list) and any(
        isinstance(one, dict) and one.get("name") == "guest-exec" and one.get("enabled") for one in commands
    )
