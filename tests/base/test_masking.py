"""Secrets: no encoding a script is likely to print gets through, however the output is cut."""

from __future__ import annotations

import base64
import binascii
import html
import itertools
import json
import math
import shlex
import shutil
import subprocess
import time
import urllib.parse
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vmlab_tui.base.masking import MASK, Masker

TOKEN = "ghp_0aB1cD2eF3gH4iJ5kL6mN7oP8qR9sT0uV1wX"
ODD = "p@ss/w'or\"d $x\\é&<y>+z%!"
KEY = (
    "-----BEGIN KEY-----\n"
    + "\n".join(f"{n:02}" + "abCD/+efGH" * 5 for n in range(12))
    + "\n-----END KEY-----"
)
SECRETS = [TOKEN, ODD, KEY]

ENCODINGS: dict[str, Callable[[str], bytes]] = {
    "plain": lambda s: s.encode(),
    "crlf": lambda s: s.replace("\n", "\r\n").encode(),
    "base64": lambda s: base64.b64encode(s.encode()),
    "base64 with newline": lambda s: base64.b64encode(s.encode() + b"\n"),
    "base64 of user:secret": lambda s: base64.b64encode(b"user:" + s.encode() + b"@host"),
    "base64 of a header": lambda s: base64.b64encode(b"token " + s.encode()),
    "base64 at offset 2": lambda s: base64.b64encode(b"ab" + s.encode() + b"tail"),
    "base64url": lambda s: base64.urlsafe_b64encode(b"x" + s.encode()).rstrip(b"="),
    "base64 wrapped": lambda s: base64.encodebytes(b"some words before " + s.encode()),
    "hex": lambda s: s.encode().hex().encode(),
    "HEX": lambda s: s.encode().hex().upper().encode(),
    "hex with colons": lambda s: s.encode().hex(":").encode(),
    "xxd": lambda s: binascii.hexlify(s.encode(), " ", 2),
    "backslash hex": lambda s: "".join(f"\\x{byte:02x}" for byte in s.encode()).encode(),
    "url": lambda s: urllib.parse.quote(s, safe="").encode(),
    "url path": lambda s: urllib.parse.quote(s).encode(),
    "url lower": lambda s: _lower(urllib.parse.quote(s, safe="")).encode(),
    "form": lambda s: urllib.parse.urlencode({"token": s}).encode(),
    "json": lambda s: json.dumps({"token": s}).encode(),
    "json utf-8": lambda s: json.dumps([s], ensure_ascii=False).encode(),
    "json in json": lambda s: json.dumps(json.dumps({"t": s})[1:-1]).encode(),
    "shell": lambda s: f"curl -H {shlex.quote('Bearer: ' + s)}".encode(),
    "single quotes": lambda s: ("'" + s.replace("'", "'\\''") + "'").encode(),
    "html": lambda s: html.escape(s).encode(),
    "repr": lambda s: repr(s).encode(),
}


def _lower(quoted: str) -> str:
    parts = quoted.split("%")
    return parts[0] + "".join("%" + part[:2].lower() + part[2:] for part in parts[1:])


def leaks(secret: str, shown: bytes) -> bool:
    """Whether any 6 bytes in a row of the secret can be got back from what is shown."""
    raw = secret.encode()
    texts = [shown, shown.replace(b"\r", b""), urllib.parse.unquote_to_bytes(shown)]
    pieces = {raw[at : at + 6] for at in range(len(raw) - 5)}
    return any(piece in text for piece in pieces for text in texts)


@pytest.mark.parametrize("secret", SECRETS, ids=["token", "odd", "key"])
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_every_encoding(secret: str, encoding: str) -> None:
    encoded = ENCODINGS[encoding](secret)
    masker = Masker([secret])
    shown = masker.mask(b"before " + encoded + b" after")
    assert MASK in shown
    assert shown.startswith(b"before ") and shown.endswith(b" after")
    assert not leaks(secret, shown), shown
    # what is left is what stood around the secret in that encoding
    assert len(shown.replace(MASK, b"")) < 70 + len(b"before  after"), shown


@pytest.mark.parametrize("secret", SECRETS, ids=["token", "odd", "key"])
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_every_cut_in_two(secret: str, encoding: str) -> None:
    raw = b"before " + ENCODINGS[encoding](secret) + b" after"
    masker = Masker([secret])
    whole = masker.mask(raw)
    step = 1 if len(raw) < 200 else 37
    for cut in range(0, len(raw) + 1, step):
        assert masker.feed(raw[:cut]) + masker.feed(raw[cut:]) + masker.finish() == whole, cut


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.sampled_from(["abab", "babc", "aaa", "c/d+", "abcabc", "é'x"]), min_size=1, max_size=4),
    st.lists(
        st.sampled_from(["a", "b", "c", "ab", "/d", "+", "é", "'", "x", "\n", "YWJhYg==", "61 62"]),
        max_size=30,
    ),
    st.lists(st.integers(0, 1000), max_size=10),
)
def test_any_cuts_and_overlapping_secrets(secrets: list[str], words: list[str], cuts: list[int]) -> None:
    raw = "".join(words).encode()
    masker = Masker(secrets)
    edges = sorted({0, len(raw), *(cut % (len(raw) + 1) for cut in cuts)})
    fed = b"".join([masker.feed(raw[a:b]) for a, b in itertools.pairwise(edges)]) + masker.finish()
    assert fed == masker.mask(raw)
    for secret in secrets:
        assert secret.encode() not in fed


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=5, max_size=30), st.data())
def test_any_secret(secret: str, data: st.DataObject) -> None:
    stripped = secret.strip()
    if len(stripped.encode()) < 5 or stripped in "[masked]" or len(stripped.splitlines()) > 1:
        return
    encoding = data.draw(st.sampled_from(sorted(ENCODINGS)))
    raw = ENCODINGS[encoding](stripped)
    cut = data.draw(st.integers(0, len(raw)))
    masker = Masker([secret])
    shown = masker.feed(raw[:cut]) + masker.feed(raw[cut:]) + masker.finish()
    assert MASK in shown
    assert raw not in shown


@pytest.mark.skipif(not shutil.which("bash"), reason="compares with bash's own quoting")
@pytest.mark.parametrize("secret", [ODD, "it's $HOME", 'say "hi" & go;', "a b\tc", "back\\slash `x`"])
@pytest.mark.parametrize(
    "command", ['printf %q "$S"', "declare -p S", "set", 'set -x; : "$S"', 'echo "${S@Q}"']
)
def test_what_bash_really_prints(secret: str, command: str) -> None:
    done = subprocess.run(
        ["bash", "-c", command],
        env={"S": secret, "LC_ALL": "C", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        check=True,
    )
    printed = done.stdout + done.stderr
    shown = Masker([secret]).mask(printed)
    assert MASK in shown, printed
    assert not leaks(secret, shown), shown


@pytest.mark.parametrize("before", [b"", b"a", b"ab", b"abc"])
@pytest.mark.parametrize("after", [b"", b"x", b"xy"])
def test_inside_base64_only_characters_shared_with_neighbours_are_left(before: bytes, after: bytes) -> None:
    encoded = base64.b64encode(before + TOKEN.encode() + after)
    first, last = math.ceil(len(before) * 8 / 6), (len(before) + len(TOKEN)) * 8 // 6
    assert Masker([TOKEN]).mask(encoded) == encoded[:first] + MASK + encoded[last:]


def test_nothing_is_held_back_without_need() -> None:
    masker = Masker([TOKEN])
    assert masker.feed(b"Continue? [y/N] ") == b"Continue? [y/N] "
    assert masker.feed(b"key: ghp_0a") == b"key: "
    assert masker.feed(b" no") == b"ghp_0a no"
    assert masker.feed(TOKEN.encode()) == MASK


def test_values_that_cannot_be_secrets_are_left_alone() -> None:
    masker = Masker(["", "  ", "1", "no"])
    assert masker.mask(b"1 no 2 yes") == b"1 no 2 yes"
    assert masker.feed(b"1") + masker.finish() == b"1"


def test_text() -> None:
    masker = Masker([ODD, "schlüssel"])
    assert masker.mask_text(f"with {ODD}: \udc80 schlüssel") == "with [masked]: \udc80 [masked]"
    assert masker.mask_text("\ud800 schlüssel") == "\ud800 [masked]"


def test_output_that_is_one_endless_overlap_is_bounded() -> None:
    masker = Masker(["aaaa", "aaaaaaa"])
    start = time.process_time()
    shown = [masker.feed(b"a" * 4096) for _ in range(500)]
    shown.append(masker.finish())
    assert time.process_time() - start < 20
    assert b"aaaa" not in b"".join(shown)
