"""Every check kind against a real machine: this one, by /bin/sh."""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from vmlab_tui.base.deadlines import Deadline
from vmlab_tui.base.errors import LabError
from vmlab_tui.base.proc import arun
from vmlab_tui.checks.kinds import command, file, package, service, user
from vmlab_tui.checks.registry import KINDS, CheckSpec, run_check
from vmlab_tui.checks.result import CheckResult
from vmlab_tui.checks.target import Output, Target


class Here:
    """This machine as a Target."""

    def __init__(self, path: str = "") -> None:
        self.env = {"PATH": f"{path}:{os.environ['PATH']}"} if path else None
        self.commands: list[str] = []

    async def execute(
        self, command: str, *, data: bytes | None = None, timeout: float = 60, user: str = "root"
    ) -> Output:
        self.commands.append(command)
        me = pwd.getpwuid(os.getuid()).pw_name
        become = (
            [] if user in (me, "root") else ["setpriv", "--reuid", user, "--regid", user, "--clear-groups"]
        )
        argv = [*become, "/bin/sh", "-c", command]
        done = await arun(argv, data=data, timeout=timeout, check=False, env=self.env)
        return Output(done.status, done.out, done.err)


class Lost:
    """A machine that does not answer."""

    async def execute(
        self, command: str, *, data: bytes | None = None, timeout: float = 60, user: str = "root"
    ) -> Output:
        raise LabError("the connection to vm\x1b[31m was lost")


async def check(kind: str, within: float = 0, target: Target | None = None, **params: Any) -> CheckResult:
    spec = CheckSpec(kind=kind, params=params, within=within, component="c")  # type: ignore[arg-type]
    return await run_check(spec, target or Here(), Deadline(60))


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        yield one


async def test_port(listener: socket.socket) -> None:
    port = listener.getsockname()[1]
    before = await check("port", port=port)
    assert (before.state, before.detail) == ("failed", "nothing listens")
    listener.listen()
    after = await check("port", port=port)
    assert (after.state, after.check, after.component) == ("passed", f"port {port}", "c")
    assert (await check("port", port=port, protocol="udp")).state == "failed"


async def test_port_on_ipv6_and_udp() -> None:
    with socket.socket(socket.AF_INET6) as six, socket.socket(type=socket.SOCK_DGRAM) as datagrams:
        six.bind(("::1", 0))
        six.listen()
        datagrams.bind(("127.0.0.1", 0))
        assert (await check("port", port=six.getsockname()[1])).state == "passed"
        assert (await check("port", port=datagrams.getsockname()[1], protocol="udp")).state == "passed"


async def test_a_connection_is_not_a_listener(listener: socket.socket) -> None:
    listener.listen()
    with socket.create_connection(listener.getsockname()) as link:
        assert (await check("port", port=link.getsockname()[1])).state == "failed"


async def test_within_waits_until_it_is_true(listener: socket.socket) -> None:
    asyncio.get_running_loop().call_later(1.0, listener.listen)
    result = await check("port", port=listener.getsockname()[1], within=10)
    assert result.state == "passed"
    assert result.tries > 1
    assert 0.9 < result.seconds < 5


async def test_within_ends_and_says_how_long(listener: socket.socket) -> None:
    result = await check("port", port=listener.getsockname()[1], within=1.2)
    assert result.state == "failed"
    assert "still so after" in result.detail
    assert result.seconds < 5


async def test_without_within_there_is_one_try(listener: socket.socket) -> None:
    assert (await check("port", port=listener.getsockname()[1])).tries == 1


@pytest.mark.parametrize(
    ("script", "expect", "state", "detail"),
    [
        ("true", None, "passed", "exit status 0"),
        ("false", None, "failed", "exit status 1"),
        ("echo hello world", "hello", "passed", ""),
        ("echo hello world", "hallo", "failed", "does not contain 'hallo'"),
        ("echo hello world", "h.llo", "failed", "does not contain"),
        ("echo hello; exit 2", "hello", "failed", "exit status 2"),
        ("echo hello >&2", "hello", "failed", "does not contain"),
        ("echo hello world", {"regex": "^h.llo"}, "passed", ""),
        ("echo; echo hello", {"regex": "^hello$"}, "passed", ""),
        ("echo hello world", {"regex": "^world"}, "failed", "does not match"),
        ("exit 3", {"status": 3}, "passed", ""),
        ("exit 4", {"status": 3}, "failed", "exit status 4, not 3"),
        ("echo x; exit 3", {"status": 3, "contains": "x"}, "passed", ""),
        ("echo y; exit 3", {"status": 3, "contains": "x"}, "failed", "does not contain"),
    ],
)
async def test_command(script: str, expect: Any, state: str, detail: str) -> None:
    result = await check("command", command=script, expect=expect)
    assert result.state == state
    assert detail in result.detail


async def test_command_that_hangs_fails_in_time() -> None:
    result = await check("command", command="sleep 60", timeout=0.5)
    assert (result.state, result.seconds < 5) == ("failed", True)
    assert "not done within 0.5 s" in result.detail


async def test_command_as_another_user() -> None:
    if os.getuid():
        pytest.skip("only root can become another user")
    assert (await check("command", command="id -un", expect="nobody", user="nobody")).state == "failed"
    assert (await check("command", command="id -u", expect="8", user="mail")).state == "passed"


async def test_guest_text_is_cleaned_and_short() -> None:
    script = r"printf '\033]0;title\007bad\033[2Jtext\302\233 \342\200\256 \377'; seq 100000; exit 1"
    result = await check("command", command=script)
    assert len(result.evidence) < 3000
    shown = await check("command", command=r"printf '\033]0;t\007bad\033[2Jtext\302\233 \342\200\256'; false")
    for text in (result.detail, result.evidence, shown.evidence, shown.check):
        assert all(char.isprintable() or char in "\n\t" for char in text), repr(text)
    assert "bad" in shown.evidence


async def test_label_of_a_hostile_command_is_clean() -> None:
    result = await check("command", command="printf '\x1b[31m'\nsecond line")
    assert "\x1b" not in result.check
    assert "\n" not in result.check


async def test_a_lost_connection_is_an_error_not_a_failure() -> None:
    for kind in KINDS:
        params: dict[str, Any] = {
            KINDS[kind].short: 22 if kind == "port" else "/x" if kind == "file" else "x"
        }
        result = await check(kind, target=Lost(), **params)
        assert result.state == "error"
        assert "lost" in result.detail
        assert "\x1b" not in result.detail


async def test_file(tmp_path: Path) -> None:
    path = tmp_path / 'it\'s a "file"; $(touch pwned)'
    assert (await check("file", path=str(path))).state == "failed"
    assert (await check("file", path=str(path), absent=True)).state == "passed"
    path.write_text("one\ntwo * three\n")
    path.chmod(0o640)
    me = pwd.getpwuid(os.getuid()).pw_name
    good: dict[str, Any] = {"mode": "0640", "owner": me, "contains": "one\ntwo *", "type": "file"}
    assert (await check("file", path=str(path), **good)).state == "passed"
    for bad, said in (
        ({"mode": "644"}, "its mode is 640, not 644"),
        ({"owner": "daemon"}, f"its owner is {me}, not daemon"),
        ({"group": "daemon"}, "its group is"),
        ({"contains": "two . three"}, "it does not contain"),
        ({"type": "directory"}, "not a directory"),
        ({"absent": True}, "it is there"),
    ):
        result = await check("file", path=str(path), **{**good, **bad})
        assert (result.state, said in result.detail) == ("failed", True), result
    assert not list(Path.cwd().glob("pwned"))


async def test_directories_and_links(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    (tmp_path / "broken").symlink_to(tmp_path / "nothing")
    (tmp_path / "empty").touch()
    assert (await check("file", path=str(tmp_path), type="directory")).state == "passed"
    assert (await check("file", path=str(tmp_path / "link"), type="link")).state == "passed"
    assert (await check("file", path=str(tmp_path / "link"), type="directory")).state == "passed"
    assert (await check("file", path=str(tmp_path / "empty"), type="file")).state == "passed"
    assert (await check("file", path=str(tmp_path / "broken"))).state == "failed"
    assert (await check("file", path=str(tmp_path / "broken"), absent=True)).state == "failed"
    several = await check("file", path=str(tmp_path), type="file", mode="001")
    assert several.detail.count(";") == 1


@pytest.mark.skipif(not shutil.which("dpkg-query"), reason="not a Debian system")
async def test_package() -> None:
    passed = await check("package", name="dpkg")
    assert passed.state == "passed"
    version = passed.detail
    assert (await check("package", name="dpkg", version=version[:3])).state == "passed"
    wrong = await check("package", name="dpkg", version="0.0")
    assert (wrong.state, wrong.detail) == ("failed", f"its version is {version}, not 0.0")
    assert (await check("package", name="no-such-package-here")).state == "failed"


async def test_package_without_a_known_manager(tmp_path: Path) -> None:
    spec = CheckSpec(kind="package", params={"name": "x"})  # type: ignore[arg-type]
    here = Here()
    here.env = {"PATH": str(tmp_path)}
    assert (await run_check(spec, here, Deadline(20))).state == "error"


async def test_user() -> None:
    root = pwd.getpwnam("root")
    good: dict[str, Any] = {"groups": ["root"], "shell": root.pw_shell, "home": root.pw_dir}
    assert (await check("user", name="root", **good)).state == "passed"
    for bad, said in (
        ({"shell": "/bin/none"}, "the shell is"),
        ({"home": "/none"}, "the home is"),
        ({"groups": ["root", "nosuchgroup"]}, "not in nosuchgroup"),
    ):
        result = await check("user", name="root", **{**good, **bad})
        assert (result.state, said in result.detail) == ("failed", True), result
    assert (await check("user", name="nosuchuser")).detail == "there is no such user"
    assert (await check("user", name="nobody", home="/nonexistent")).state == "failed"


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
async def test_user_without_sudo() -> None:
    result = await check("user", name="nobody", sudo=True)
    assert (result.state, "sudo" in result.detail) == ("failed", True)


# what systemctl show prints, in the form that systemd 252 prints
_SHOWN = {
    name: "LoadState={}\nActiveState={}\nSubState={}\nUnitFileState={}\nResult={}".format(*values)
    for name, values in {
        "running": ("loaded", "active", "running", "enabled", "success"),
        "off": ("loaded", "inactive", "dead", "disabled", "success"),
        "broken": ("loaded", "failed", "failed", "enabled", "exit-code"),
        "none": ("not-found", "inactive", "dead", "", "success"),
    }.items()
}


@pytest.mark.parametrize(
    ("shown", "params", "state", "said"),
    [
        ("running", {}, "passed", "active (running)"),
        ("running", {"enabled": True}, "passed", ""),
        ("running", {"enabled": False}, "failed", "at boot it is enabled"),
        ("running", {"active": False}, "failed", "it is active"),
        ("off", {}, "failed", "it is inactive (dead)"),
        ("off", {"active": False, "enabled": False}, "passed", ""),
        ("broken", {}, "failed", "result exit-code"),
        ("none", {}, "failed", "there is no such unit"),
        ("none", {"active": False}, "passed", ""),
    ],
)
async def test_service(tmp_path: Path, shown: str, params: dict[str, Any], state: str, said: str) -> None:
    # stands in for systemd, which this machine may not run; a real one is asked in the guest tests
    for name, text in (("systemctl", _SHOWN[shown]), ("journalctl", "its last words")):
        (tmp_path / name).write_text(f"#!/bin/sh\ncat <<'END'\n{text}\nEND\n")
        (tmp_path / name).chmod(0o755)
    result = await check("service", target=Here(str(tmp_path)), name="web", **params)
    assert (result.state, said in result.detail) == (state, True), result
    assert ("its last words" in result.evidence) == (state == "failed")


async def test_service_without_systemd(tmp_path: Path) -> None:
    here = Here()
    here.env = {"PATH": str(tmp_path)}
    spec = CheckSpec(kind="service", params={"name": "web"})  # type: ignore[arg-type]
    assert (await run_check(spec, here, Deadline(20))).state == "error"


_WORDS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=20)


@given(word=_WORDS)
@example(word="x; touch $FLAG")
@example(word="'; touch $FLAG; '")
@example(word="$(touch $FLAG)")
@example(word="`touch $FLAG`\n touch $FLAG")
@example(word="%(name)s %s {}")
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_value_becomes_shell(tmp_path: Path, word: str) -> None:
    """Even values that the models would refuse reach the shell as one word each."""
    flag = tmp_path / "flag"
    here = Here()
    here.env = {"FLAG": str(flag)}
    hostile: list[tuple[Any, Any]] = [
        (service.run, service.Params.model_construct(name=word, active=True, enabled=None)),
        (package.run, package.Params.model_construct(name=word, version=None)),
        (
            user.run,
            user.Params.model_construct(name=word, groups=("x",), shell=None, home="/" + word, sudo=False),
        ),
        (file.run, file.Params.model_construct(path="/nowhere/" + word, absent=True)),
        (
            file.run,
            file.Params.model_construct(
                path="/nowhere/" + word,
                absent=False,
                type=None,
                contains="x",
                mode=None,
                owner=None,
                group=None,
            ),
        ),
    ]

    async def all_of_them() -> None:
        for run, params in hostile:
            verdict = await run(params, here, 20)
            assert verdict.state in ("passed", "failed", "error")

    asyncio.run(all_of_them())
    assert not flag.exists()


def test_a_command_is_shell_and_nothing_else() -> None:
    """The one value that is shell by intent is passed on unchanged."""
    here = Here()
    asyncio.run(command.run(command.Params(command="echo 'a b'"), here, 20))
    assert here.commands == ["echo 'a b'"]


def test_a_spec_survives_json() -> None:
    for kind in KINDS.values():
        short = 22 if kind.name == "port" else "/x" if kind.name == "file" else "x"
        spec = CheckSpec(kind=kind.name, params={kind.short: short}, component="c", within=3)  # type: ignore[arg-type]
        again = CheckSpec.model_validate_json(spec.model_dump_json())
        assert again == spec
        assert type(again.params) is kind.params
