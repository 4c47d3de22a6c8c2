"""Following the file: edits, renames, a swapped ConfigMap, SIGHUP, rotated secrets; refusals that change nothing."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from proxy.config import Config
from proxy.control.reload import LiveConfig
from proxy.errors import ConfigError
from proxy.telemetry.tasks import spawn
from tests.unit.config.texts import BASE

PATIENCE_SECONDS = 10  # for a busy machine; an edit is expected within one


def with_weight(weight: float) -> str:
    return BASE + f"    reads: {{weight: {weight}}}\n"


class Followed:
    """A configuration that is being followed, and what came of it."""

    def __init__(self, path: Path) -> None:
        self.applied: asyncio.Queue[tuple[Config, Config]] = asyncio.Queue()
        self.refused: asyncio.Queue[str] = asyncio.Queue()
        self.moved: list[str] = []  # routes whose primary is the target

        def applied(old: Config, new: Config) -> None:
            self.applied.put_nowait((old, new))

        self.live = LiveConfig(path, applied, self.refused.put_nowait, lambda: self.moved)

    async def weights(self) -> tuple[float, float]:
        """The weights before and after the next edit that is taken."""
        old, new = await asyncio.wait_for(self.applied.get(), PATIENCE_SECONDS)
        assert self.live.config is new
        return old.routes[0].reads.weight, new.routes[0].reads.weight

    async def refusal(self) -> str:
        why = await asyncio.wait_for(self.refused.get(), PATIENCE_SECONDS)
        assert self.live.refused == why
        return why


@asynccontextmanager
async def followed(path: Path) -> AsyncIterator[Followed]:
    follower = Followed(path)
    task = spawn(follower.live.follow(), name="follow")
    try:
        yield follower
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "crossfade.yaml"
    path.write_text(with_weight(0))
    return path


def written(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)


def removed(path: Path) -> None:
    path.unlink()


def renamed(path: Path, text: str) -> None:
    """As editors save."""
    draft = path.with_suffix(".draft")
    draft.write_text(text)
    draft.replace(path)


def removed_and_made(path: Path, text: str) -> None:
    path.unlink()
    path.write_text(text)


@pytest.mark.parametrize("save", [written, renamed, removed_and_made])
async def test_an_edit_is_taken(file: Path, save: Callable[[Path, str], None]) -> None:
    async with followed(file) as follower:
        save(file, with_weight(25))
        assert await follower.weights() == (0, 25)
        save(file, with_weight(50))
        assert await follower.weights() == (25, 50)


async def test_a_swapped_configmap_is_taken(tmp_path: Path) -> None:
    """As the kubelet does it: file -> ..data/file, ..data -> a directory of its own, swapped by a rename."""
    mount = tmp_path / "mount"

    def publish(version: str, text: str) -> None:
        (mount / version).mkdir(parents=True)
        (mount / version / "crossfade.yaml").write_text(text)
        (mount / "..data_tmp").symlink_to(version)
        (mount / "..data_tmp").replace(mount / "..data")

    publish("..2026_1", with_weight(0))
    (mount / "crossfade.yaml").symlink_to("..data/crossfade.yaml")
    async with followed(mount / "crossfade.yaml") as follower:
        publish("..2026_2", with_weight(25))
        assert await follower.weights() == (0, 25)
        publish("..2026_3", with_weight(100))
        assert await follower.weights() == (25, 100)


async def test_a_link_that_leads_elsewhere_is_looked_at_too(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "elsewhere").mkdir()
    target = tmp_path / "elsewhere" / "real.yaml"
    target.write_text(with_weight(0))
    (tmp_path / "etc" / "crossfade.yaml").symlink_to(target)
    async with followed(tmp_path / "etc" / "crossfade.yaml") as follower:
        renamed(target, with_weight(25))
        assert await follower.weights() == (0, 25)


async def test_an_edit_with_a_problem_changes_nothing_and_says_where(file: Path) -> None:
    async with followed(file) as follower:
        before = follower.live.config
        written(file, with_weight(125))
        assert await follower.refusal() == "line 13: routes[0].reads.weight: 125 is not between 0 and 100"
        assert follower.live.config is before
        assert follower.applied.empty()
        written(file, with_weight(25))
        assert await follower.weights() == (0, 25)
        assert follower.live.refused is None


async def test_a_change_that_needs_a_restart_is_refused_as_a_whole(file: Path) -> None:
    async with followed(file) as follower:
        before = follower.live.config
        written(file, with_weight(25) + "data_dir: /elsewhere\n")
        assert await follower.refusal() == "line 14: data_dir changed, and needs a restart: the journal in it is open"
        assert follower.live.config is before
        assert follower.applied.empty()


ASKING = "auth: {mode: ask-primary}\n"


async def test_nobody_is_told_to_ask_a_primary_that_does_not_know_the_keys(file: Path) -> None:
    async with followed(file) as follower:
        follower.moved = ["docs"]
        written(file, with_weight(25) + ASKING)
        assert await follower.refusal() == (
            "line 14: auth.mode: ask-primary has nobody to ask: the target, which does not know the source's keys, is "
            "the primary of docs; use keys"
        )
        assert follower.applied.empty()
        follower.moved = []
        written(file, with_weight(50) + ASKING)
        assert await follower.weights() == (0, 50)


async def test_where_that_is_so_already_other_edits_are_taken(file: Path) -> None:
    """After a restart that came to it: what an operator may still want is not held up."""
    written(file, with_weight(100) + ASKING)
    async with followed(file) as follower:
        follower.moved = ["docs"]
        written(file, with_weight(0) + ASKING)
        assert await follower.weights() == (100, 0)


async def test_a_comment_is_no_change(file: Path) -> None:
    async with followed(file) as follower:
        written(file, with_weight(0) + "# a comment\n")
        follower.live.look()
        assert follower.applied.empty()
        written(file, with_weight(25))
        assert await follower.weights() == (0, 25)


async def test_sighup_reads_everything_again(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What only the environment changes, no file tells."""
    text = BASE + "    reads: {weight: '${CROSSFADE_TEST_WEIGHT:-0}'}\n"
    written(file, text)
    async with followed(file) as follower:
        written(file, text + "    writes: {policy: both}\n")
        assert await follower.weights() == (0, 0)  # it is being followed by now
        monkeypatch.setenv("CROSSFADE_TEST_WEIGHT", "25")
        os.kill(os.getpid(), signal.SIGHUP)
        assert await follower.weights() == (0, 25)


async def test_sighup_tells_that_the_file_is_gone(file: Path) -> None:
    async with followed(file) as follower:
        renamed(file, with_weight(25))
        assert await follower.weights() == (0, 25)
        removed(file)
        os.kill(os.getpid(), signal.SIGHUP)
        assert await follower.refusal() == f"cannot read {file}: No such file or directory"
        written(file, with_weight(50))
        assert await follower.weights() == (25, 50)


async def test_a_rotated_secret_is_taken(tmp_path: Path, file: Path) -> None:
    secret = tmp_path / "secret" / "key"
    written(secret, "one\n")
    written(file, BASE + f'auth: {{mode: keys, keys: ["${{file:{secret}}}"]}}\n')
    async with followed(file) as follower:
        renamed(secret, "two\n")
        old, new = await asyncio.wait_for(follower.applied.get(), PATIENCE_SECONDS)
        assert [key.get_secret_value() for config in (old, new) for key in config.auth.keys] == ["one", "two"]


async def test_following_ends_with_its_task_and_gives_the_signal_back(file: Path) -> None:
    loop = asyncio.get_running_loop()
    async with followed(file) as follower:
        written(file, with_weight(25))
        await follower.weights()
    assert not loop.remove_signal_handler(signal.SIGHUP)


def test_a_file_that_cannot_be_used_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read .*absent.yaml: No such file or directory"):
        Followed(tmp_path / "absent.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"version: \xff\n")
    with pytest.raises(ConfigError, match=r"binary.yaml is not UTF-8 text: invalid start byte at byte 9"):
        Followed(tmp_path / "binary.yaml")
