"""Text that wants to be more than text: what a guest, a file name or libvirt may hold."""

from __future__ import annotations

BIDI = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"

PAYLOAD = "PAYLOAD"
"""In titles, links and clipboards that would be set: must not come out as part of a sequence."""

TEXTS: tuple[str, ...] = (
    "",
    " ",
    "      ",
    "\t",
    "a\tb\tc",
    "two\nlines",
    "carriage\rreturn",
    "vertical\x0btab\x0cfeed\x85next\u2028line\u2029paragraph",
    "nul\x00 bell\x07 backspace\x08\x08 delete\x7f shift\x0eout\x0f",
    "\x1b[2J\x1b[Hcleared",
    "\x1b[777;777Hmoved",
    "\x1b[A\x1b[A\x1b[Kabove",
    "\x1b[?1049lleft\x1b[?25h\x1b[?1000l",
    "\x1b[31mred\x1b[0m",
    "\x1b[38;5;1m\x1b[48;2;1;2;3mmany\x1b[8mhidden\x1b[5mblinks",
    "\x1b[6n\x1b[c\x1b[>0q\x1b[18tasks",
    "\x1b]0;PAYLOAD\x07title",
    "\x1b]8;;https://PAYLOAD.example/\x1b\\link\x1b]8;;\x1b\\",
    "\x1b]52;c;UEFZTE9BRA==\x07clipboard",
    "\x1b]9;PAYLOAD\x1b\\notification",
    "\x1bPPAYLOAD\x1b\\dcs\x1b_PAYLOAD\x1b\\apc\x1b^PAYLOAD\x1b\\pm\x1bXPAYLOAD\x1b\\sos",
    "\x1bcreset\x1b#8\x1b(0qqq\x1b7\x1b8",
    "\x9b2J\x9b31mred\x9d0;PAYLOAD\x9ctitle\x90PAYLOAD\x9c",
    "unfinished \x1b",
    "unfinished \x1b[",
    "unfinished \x1b]0;PAYLOAD",
    "unfinished \x9d52;c;PAYLOAD",
    "[@click=app.quit]x[/]",
    "[@click=app.bell]press[/@click]",
    "[/x]",
    "vm[/red]",
    "[red]red[/red]",
    "[link=https://PAYLOAD.example/]x[/link]",
    "[[]] [ ] \\[red] [b",
    "$text-error {name} %s %n",
    "right\u202eto left\u202c",
    "".join(BIDI) + "bidi",
    "zero\u200bwidth\u200cjoin\u200der\ufeffmark\u2060word",
    "soft\u00adhyphen tag\U000e0041s",
    "e" + "\u0301" * 300,
    "Z\u0351\u036b\u0343\u036a\u0302\u036b\u033d\u034f\u0334\u0319\u0324\u031eA\u0354L\u0353G\u0332O",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466 family",
    "\U0001f1e9\U0001f1ea \u2764\ufe0f \U0001f44d\U0001f3fd",
    "漢字かなカナ한국어" * 12,
    "שלום עולם وأهلا بالعالم",
    "a" * 79 + "漢",
    "x" * 5000,
    "private\ue000 unassigned\U000e1000 replacement\ufffd",
    "../../etc/passwd",
    "-rf",
    "'; $(reboot) `reboot` \"",
)
"""As names of VMs, images and snapshots, errors, lines."""

BYTES: tuple[bytes, ...] = (
    *(text.encode("utf-8", "surrogatepass") for text in TEXTS),
    b"\x9b2J raw C1 \x9d0;PAYLOAD\x9c \x90PAYLOAD\x9c \x85",
    b"\xc2\x9b2J C1 as UTF-8 \xc2\x9d52;c;PAYLOAD\xc2\x9c",
    b"\xff\xfe\xfd invalid",
    b"\xe6\xbc cut short",
    b"\xf0\x9f\x98",
    b"\xc0\x9b[2J overlong \xc0\xaf \xe0\x80\x9b \xf0\x80\x80\x9b",
    b"\xed\xa0\x80 surrogate",
    b"\xf5\x80\x80\x80 too high",
    b"\x1b" * 200,
    b"\x1b[" + b"9" * 500 + b"m",
    b"\x1b[1;2;3;4;5;6;7;8;9;10;11;12;13;14;15m" * 300 + b"colours",
    b"\x1b]0;" + b"PAYLOAD" * 2000,
    b"\x1bP" + b"q#0;2;0;0;0" * 500,
    b"\x1b[3\x00" + b"1mhalf",
    b"\x1b\x1b[31\x1b[2Jnested",
    b"\x1b[31" + b"\r\n" + b"m over two lines",
    b"\x1b]8;;PAYLOAD" + b"\n" + b"\x07 over two lines",
    b"\x00" * 4096,
    b"10%\r20%\r100%",
    b"\r\r\r\r",
    b"\n\n\n",
    b"\t" * 3000,
    b"line " * 200_000,
    ("漢" * 300_000).encode(),
)
"""As logs, whole or one after the other."""


def log() -> bytes:
    """All of it in one log."""
    return b"\n".join(BYTES) + b"\n"
