"""A copied guest becomes a machine of its own: name, keys, machine id, random numbers, the time of day."""

from __future__ import annotations

import asyncio
import secrets
import time
from dataclasses import dataclass, replace

from vmlab_tui.base.errors import DeadlineError, LabError
from vmlab_tui.base.text import clean_line
from vmlab_tui.guests.keys import HostKey, new_host_key
from vmlab_tui.guests.ssh import Guest


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
note() { echo "note $*"; }
put() { printf '%s' "$2" 2>/dev/null >"$1" || note "$1"; }
nl='
'
read -r server; read -r name; read -r id; read -r mix; read -r seed; read -r public
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
if [ ! -e "$1" ]; then  # else the kernel has stirred by itself when it woke
  perl -e 'open(F, ">", "/dev/urandom") && ioctl(F, 0x5207, 0) or exit 1' 2>/dev/null ||
    python3 -c 'import fcntl; fcntl.ioctl(open("/dev/urandom", "wb"), 0x5207)' 2>/dev/null ||
    note "random numbers: the kernel takes fresh ones within a minute only"
fi

read -r old </proc/sys/kernel/hostname
put /proc/sys/kernel/hostname "$name"
put /etc/hostname "$name$nl"
if [ -e /var/lib/cloud/data/previous-hostname ]; then put /var/lib/cloud/data/previous-hostname "$name"; fi
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
case $server in
*OpenSSH*)
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
  done ;;
*dropbear*)
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
    kill "$pid"  # what runs it in the foreground starts it anew; this session is another process
    for n in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
      read -r other </run/dropbear.pid && [ "$other" != "$pid" ] && break
      sleep 0.1
    done
  else
    note "host key: dropbear's cannot be changed here"
  fi
  rm -f /run/vmlab-key ;;
*) note "host key: unknown SSH server" ;;
esac
echo done
sync </dev/null >/dev/null 2>&1 &
"""


async def assume(guest: Guest, identity: Identity, *, timeout: float = 30) -> tuple[str, ...]:
    """Make the guest ``identity``'s, over the connection it has (it was made with the old pin).

    Sets clock, host name, machine id, random seeds and the SSH host key, so that ours is the only one it has.
    Returns what could not be set, in words; empty when all is. The connection goes on; once the host key is
    in place, ``guest.endpoint`` carries the new pin for the next one. Raises LabError, DeadlineError, and
    Dropped, after which the guest may have the old key or the new one.
    """
    label = guest.endpoint.label
    lines = [
        guest.server,
        identity.hostname,
        identity.machine_id,
        secrets.token_hex(64),
        secrets.token_hex(512),
        identity.host_key.public.strip(),
        identity.host_key.private.strip(),
    ]
    try:
        async with asyncio.timeout(timeout), guest.process(_SCRIPT, timeout=timeout) as process:
            with guest.translated():
                process.stdin.write("".join(f"{line}\n" for line in lines).encode())
                said = [await process.stdout.readline()]
                if said[0].strip() == b"ready":
                    process.stdin.write(f"{time.time():.6f}\n".encode())
                    while said[-1] and said[-1].strip() != b"done":
                        said.append(await process.stdout.readline())
                problem = b"" if said[-1] else await process.stderr.read(4096)
    except TimeoutError as error:
        raise DeadlineError(f"{label}: no identity of its own within {timeout:g} s") from error
    if not said[-1]:
        raise LabError(
            f"{label}: the guest could not be given an identity of its own: {clean_line(problem, 300)}",
            hint="the login user needs sudo without a password",
        )
    notes = tuple(clean_line(one.removeprefix(b"note "), 200).strip() for one in said if one[:5] == b"note ")
    if not any("host key" in note or "ssh_host" in note for note in notes):
        guest.endpoint = replace(guest.endpoint, host_key=identity.host_key.public)
    return notes
