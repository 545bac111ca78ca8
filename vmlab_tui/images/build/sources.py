"""Where the packages come from: this machine's own apt sources, mapped to the suite of the recipe.

A machine that reaches its packages through a mirror or a proxy cannot reach them otherwise, so its
configuration is what an image is built with. Only a machine without Debian sources falls back to Debian's own
archive.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from vmlab_tui.base.errors import LabError, Refused
from vmlab_tui.base.proc import run

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
DEFAULT = "http://deb.debian.org/debian"
DEFAULT_SECURITY = "http://deb.debian.org/debian-security"

_RELEASES = {"bullseye": 11, "bookworm": 12, "trixie": 13, "forky": 14}
_NAMES = frozenset(_RELEASES) | {
    "buster",
    "duke",
    "stable",
    "oldstable",
    "oldoldstable",
    "testing",
    "unstable",
    "sid",
}
_ROLLING = ("sid", "unstable", "testing")
# what of apt's configuration decides whether a mirror is reached and believed
_SETTINGS = re.compile(
    r"Acquire::(?:(?:https?|ftp)(?:::.*)?|Retries|Check-Valid-Until|Check-Date|ForceIPv[46])[ :]"
)


@dataclass(frozen=True)
class Source:
    """One archive: ``role`` is main, updates or security. ``signed_by`` is a keyring file, or None."""

    uri: str
    role: str
    signed_by: Path | None = None
    trusted: bool = False

    def line(self, suite: str, components: Iterable[str]) -> str:
        """The entry of a sources.list for ``suite``."""
        options = ["trusted=yes"] if self.trusted else [f"signed-by={self.signed_by or KEYRING}"]
        return f"deb [{' '.join(options)}] {self.uri} {self.suite(suite)} {' '.join(components)}"

    def suite(self, suite: str) -> str:
        return suite if self.role == "main" else f"{suite}-{self.role}"


def read_sources(etc: Path = Path("/etc/apt")) -> list[Source]:
    """The Debian archives that apt on this machine uses; empty on other distributions."""
    found: list[Source] = []
    lists = [etc / "sources.list", *sorted((etc / "sources.list.d").glob("*.list"))]
    for path in lists:
        if path.is_file():
            for line in path.read_text(errors="replace").splitlines():
                found += _one_line(line)
    for path in sorted((etc / "sources.list.d").glob("*.sources")):
        for stanza in _stanzas(path.read_text(errors="replace")):
            found += _deb822(stanza)
    # the same archive listed twice, and a second mirror for the same role, add nothing
    return list({source.role: source for source in reversed(found)}.values())[::-1]


def _role(suite: str) -> str | None:
    """main, updates or security for a suite of Debian; None for anything else, backports too."""
    base, _, rest = suite.replace("/", "-").partition("-")
    if base not in _NAMES:
        return None
    return {"": "main", "updates": "updates", "security": "security"}.get(rest)


def _make(
    uris: Iterable[str], suites: Iterable[str], components: list[str], options: dict[str, str]
) -> list[Source]:
    if "main" not in components or "amd64" not in options.get("arch", "amd64"):
        return []
    signed = options.get("signed-by", "").split()
    keyring = Path(signed[0]) if len(signed) == 1 and signed[0].startswith("/") else None
    trusted = options.get("trusted", "").lower() in ("yes", "true", "1")
    found = []
    for suite in suites:
        role = _role(suite.rstrip("/"))
        # bullseye and older keep their security archive under SUITE/updates; the name is made anew here
        found += [Source(uri.rstrip("/"), role, keyring, trusted) for uri in uris if role and _usable(uri)]
    return found


def _usable(uri: str) -> bool:
    return urlsplit(uri).scheme in (
        "http",
        "https",
        "file",
        "copy",
        "mirror+http",
        "mirror+https",
        "mirror+file",
    )


def _one_line(line: str) -> list[Source]:
    found = re.match(r"\s*deb\s+(?:\[([^\]]*)\]\s*)?(\S+)\s+(\S+)\s+([^#]*)", line)
    if not found:
        return []
    options = dict(pair.partition("=")[::2] for pair in (found[1] or "").split())
    return _make(
        [found[2]], [found[3]], found[4].split(), {key.lower(): value for key, value in options.items()}
    )


def _stanzas(text: str) -> list[dict[str, str]]:
    """deb822: fields by lower-case name, continued lines joined, comments dropped."""
    stanzas: list[dict[str, str]] = [{}]
    field = ""
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        if not line.strip():
            stanzas.append({})
        elif line[0] in " \t":
            if field:
                stanzas[-1][field] += "\n" + line.strip()
        else:
            name, _, value = line.partition(":")
            field = name.strip().lower()
            stanzas[-1][field] = value.strip()
    return [stanza for stanza in stanzas if stanza]


def _deb822(stanza: dict[str, str]) -> list[Source]:
    if "deb" not in stanza.get("types", "").split() or stanza.get("enabled", "yes").lower() in (
        "no",
        "false",
        "0",
    ):
        return []
    options = {
        "signed-by": stanza.get("signed-by", ""),
        "trusted": stanza.get("trusted", ""),
        "arch": stanza.get("architectures", "amd64"),
    }
    return _make(
        stanza.get("uris", "").split(),
        stanza.get("suites", "").split(),
        stanza.get("components", "").split(),
        options,
    )


def sources_for(suite: str, found: list[Source]) -> list[Source]:
    """The archives for ``suite``: those found, or Debian's own where there is no main archive among them."""
    if not any(source.role == "main" for source in found):
        found = [Source(DEFAULT, "main"), Source(DEFAULT, "updates"), Source(DEFAULT_SECURITY, "security")]
    return [source for source in found if source.role == "main" or suite not in _ROLLING]


def check_keys(suite: str, sources: list[Source]) -> None:
    """Raise Refused if a keyring that is to vouch for ``suite`` has no key of that release.

    A keyring keeps the owners' names of its keys in clear, as in ``(13/trixie)``.
    """
    number = _RELEASES.get(suite)
    for source in sources:
        keyring = source.signed_by or KEYRING
        if source.trusted:
            continue
        try:
            raw = _dearmoured(keyring.read_bytes())
        except OSError as error:
            raise Refused(
                f"{keyring} is missing: it vouches for the packages of {source.uri}",
                hint="apt-get install debian-archive-keyring",
            ) from error
        if number is not None and b"debian.org" in raw and f"({number}/{suite})".encode() not in raw:
            raise Refused(
                f"{keyring} has no key of Debian {number} ({suite}), so its packages cannot be verified",
                hint="apt-get update && apt-get install --only-upgrade debian-archive-keyring",
            )


def _dearmoured(raw: bytes) -> bytes:
    """The keyring in binary; ``.asc`` files are base64 between lines of dashes."""
    if not raw.startswith(b"-----BEGIN"):
        return raw
    blocks = re.findall(
        rb"-----BEGIN[^\n]*-----\n(?:[^\n]*:[^\n]*\n)*\n(.*?)\n(?:=|-----END)", raw, re.DOTALL
    )
    try:
        return b"".join(base64.b64decode(block) for block in blocks)
    except binascii.Error:
        return raw


def apt_settings() -> str:
    """Proxies, certificates and clock rules of this machine's apt, as a configuration file for another apt.

    mmdebstrap's apt reads only its own configuration.
    """
    try:
        text = run(["apt-config", "dump"], timeout=20).text
    except LabError:
        return ""
    lines = [line for line in text.splitlines() if _SETTINGS.match(line) and not line.endswith(' "";')]
    return "".join(f"{line}\n" for line in lines)


def guest_sources(suite: str, sources: list[Source], components: Iterable[str]) -> str:
    """``debian.sources`` of the finished guest: the same mirrors, unless only this machine can use them."""
    stanzas = []
    for source in sources:
        parts = urlsplit(source.uri)
        local = parts.scheme not in ("http", "https") or parts.hostname in (
            "localhost",
            "127.0.0.1",
            "::1",
            None,
        )
        default = DEFAULT_SECURITY if source.role == "security" else DEFAULT
        # a password in a mirror's address is this machine's, and no business of its guests
        uri = default if local or "@" in parts.netloc or source.trusted else source.uri
        stanzas.append(
            f"Types: deb\nURIs: {uri}\nSuites: {source.suite(suite)}\n"
            f"Components: {' '.join(components)}\nSigned-By: {KEYRING}\n"
        )
    return "\n".join(stanzas)
