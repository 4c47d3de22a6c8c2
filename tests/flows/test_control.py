"""An operator's commands over real sockets: the API, its client, and the `crossfade` executable."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import aiohttp
import msgspec
import pytest

from proxy.control import Disagreement, NotKnown, server
from proxy.control.client import ControlClient
from proxy.errors import ConfigError, GateClosed, JournalError, Unauthorized, Unavailable
from proxy.telemetry.exposition import Exposition
from proxy.telemetry.metrics import Metrics
from tests.support.operations import SmallOperations

EXECUTABLE = str(Path(sys.executable).with_name("crossfade"))
TOKEN = "a-token-for-the-flow"
T = TypeVar("T")

CONFIG = """\
version: 1
data_dir: {data_dir}
listeners:
  - {{name: rest, vendor: qdrant, transport: http, address: "127.0.0.1:0"}}
control: {{address: "127.0.0.1:{port}", token: {token}}}
stores:
  old: {{kind: memory}}
  new: {{kind: memory}}
routes:
  - name: docs
    collections: [docs]
    source: old
    target: new
    reads:
      weight: 0  # not yet
"""


@dataclass
class Control:
    """A running control API in this process, and ways to call it from outside the loop."""

    operations: SmallOperations
    metrics: Metrics
    url: str
    config: Path
    reason: str | None = None  # why it is not ready

    @property
    def client(self) -> ControlClient:
        return ControlClient(self.url, TOKEN)

    async def call(self, method: Callable[[ControlClient], T]) -> T:
        return await asyncio.to_thread(method, self.client)


def page_of(exposition: Exposition) -> Callable[[], Awaitable[bytes]]:
    async def page() -> bytes:
        return exposition.page()

    return page


@pytest.fixture
async def control(tmp_path: Path) -> AsyncIterator[Control]:
    config = tmp_path / "crossfade.yaml"
    operations, metrics = SmallOperations(config), Metrics()
    running = Control(operations, metrics, "", config)
    exposition = Exposition(metrics)
    application = server.api(operations, page_of(exposition), lambda: running.reason, TOKEN)
    async with server.Server(application, "127.0.0.1", 0) as listening:
        running.url = f"http://127.0.0.1:{listening.port}"
        config.write_text(CONFIG.format(data_dir=tmp_path / "data", port=listening.port, token=TOKEN))
        yield running
        await operations.close()
    exposition.close()


# --- the API and its client ------------------------------------------------------------------


async def test_status_arrives_as_it_was_given(control: Control) -> None:
    status = await control.call(ControlClient.status)
    assert (status.routes, status.stores, status.listeners) == (
        (given := await control.operations.status()).routes,
        given.stores,
        given.listeners,
    )


async def test_a_migration_step_by_step(control: Control) -> None:
    route = await control.call(lambda client: client.mirror("docs"))
    assert route.phase == "dual-write"
    backfill = await control.call(lambda client: client.start_job("backfill", "docs"))
    await control.operations.finished(backfill.id)
    job = await control.call(lambda client: client.job(backfill.id))
    assert (job.status, job.done, job.result) == ("done", 100, {"copied": 100})
    route = await control.call(lambda client: client.set_weight("docs", 25))
    assert (route.weight.wish, route.weight.override, route.weight.effective) == (0, 25, 25)
    route = await control.call(lambda client: client.clear_weight("docs"))
    assert route.weight.effective == 0


async def test_a_job_is_paused_resumed_and_cancelled(control: Control) -> None:
    control.operations.hold_pages.clear()
    await control.call(lambda client: client.mirror("docs"))
    started = await control.call(lambda client: client.start_job("backfill", "docs"))
    await control.operations.page_reached.wait()
    paused = await control.call(lambda client: client.act_on_job(started.id, "pause"))
    assert paused.status == "paused"
    resumed = await control.call(lambda client: client.act_on_job(started.id, "resume"))
    assert resumed.status == "running"
    cancelled = await control.call(lambda client: client.act_on_job(started.id, "cancel"))
    assert cancelled.status == "cancelled"
    with pytest.raises(GateClosed, match="cancelled already"):
        await control.call(lambda client: client.act_on_job(started.id, "pause"))
    assert [job.id for job in await control.call(ControlClient.jobs)] == [started.id]


async def test_errors_arrive_as_what_they_were(control: Control) -> None:
    with pytest.raises(NotKnown, match="no route `dox`; known: docs"):
        await control.call(lambda client: client.mirror("dox"))
    with pytest.raises(NotKnown, match="no job `a/b c`; known: none"):
        await control.call(lambda client: client.job("a/b c"))
    with pytest.raises(GateClosed, match="run `crossfade backfill docs`"):
        await control.call(lambda client: client.set_weight("docs", 25))
    control.config.write_text("nothing: here\n")
    with pytest.raises(ConfigError, match="line 1: version"):
        await control.call(ControlClient.reload)
    control.operations.broken = JournalError("the disk is full")
    with pytest.raises(JournalError, match="the disk is full"):
        await control.call(ControlClient.status)


async def test_an_unexpected_error_is_answered_without_its_text(control: Control) -> None:
    control.operations.broken = KeyError("somebody's id")
    with pytest.raises(Exception, match="its log says why") as raised:
        await control.call(ControlClient.status)
    assert "somebody" not in str(raised.value)


@pytest.mark.parametrize("token", ["", "wrong", TOKEN[:-1], TOKEN + "x"])
async def test_without_the_token_nothing_is_said(control: Control, token: str) -> None:
    for call in (ControlClient.status, ControlClient.jobs, ControlClient.reload):
        with pytest.raises(Unauthorized, match="control token"):
            await asyncio.to_thread(call, ControlClient(control.url, token))
    async with aiohttp.ClientSession() as session:
        for path in ("/api", "/api/", "/%61pi/status", "//api/status", "/api/nothing", "/"):
            async with session.get(control.url + path, headers={"Authorization": f"Bearer {token}"}) as response:
                assert response.status == 401, path


async def test_probes_and_metrics_need_no_token(control: Control) -> None:
    control.metrics.reads.add("docs", "primary", "weight")
    async with aiohttp.ClientSession() as session:
        async with session.get(control.url + "/livez") as response:
            assert (response.status, await response.text()) == (200, "ok\n")
        async with session.get(control.url + "/metrics") as response:
            assert response.headers["Content-Type"].startswith("text/plain; version=0.0.4")
            assert 'crossfade_reads_total{reason="weight",route="docs",store="primary"} 1.0' in await response.text()
        async with session.get(control.url + "/readyz") as response:
            assert response.status == 200
        control.reason = "the journal is being read"
        async with session.get(control.url + "/readyz") as response:
            assert (response.status, await response.text()) == (503, "the journal is being read\n")
    assert await control.call(ControlClient.ready) == "the journal is being read"


async def test_the_probes_listener_has_no_api(control: Control) -> None:
    exposition = Exposition(Metrics())
    async with (
        server.Server(server.probes(page_of(exposition), lambda: None), "127.0.0.1", 0) as probes,
        aiohttp.ClientSession() as session,
    ):
        for path, status in (("/livez", 200), ("/readyz", 200), ("/metrics", 200), ("/api/status", 404)):
            async with session.get(f"http://127.0.0.1:{probes.port}{path}") as response:
                assert response.status == status
    exposition.close()


@pytest.mark.parametrize(
    ("method", "path", "body", "message"),
    [
        ("PUT", "/api/routes/docs/weight", '{"percent": 101}', "from 0 to 100"),
        ("PUT", "/api/routes/docs/weight", '{"percent": "much"}', "does not fit"),
        ("PUT", "/api/routes/docs/weight", "{", "does not fit"),
        ("POST", "/api/jobs", '{"kind": "destroy", "route": "docs"}', "does not fit"),
        ("POST", "/api/jobs", '{"kind": "verify", "route": "docs", "rute": 1}', "does not fit"),
        ("GET", "/api/routes/docs/parked?limit=0", "", "limit"),
    ],
)
async def test_a_malformed_request_is_told_what_was_expected(
    control: Control, method: str, path: str, body: str, message: str
) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.request(method, control.url + path, data=body) as response,
    ):
        assert response.status == 400
        assert message in (await response.json())["error"]["message"]


async def test_a_taken_port_is_told(control: Control) -> None:
    port = int(control.url.rpartition(":")[2])
    exposition = Exposition(Metrics())
    with pytest.raises(ConfigError, match=f"cannot listen on 127.0.0.1:{port}"):
        await server.Server(server.probes(page_of(exposition), lambda: None), "127.0.0.1", port).start()
    exposition.close()


async def test_a_proxy_that_is_not_there_is_told_with_the_next_step(unused_tcp_port: int) -> None:
    client = ControlClient(f"http://127.0.0.1:{unused_tcp_port}", TOKEN)
    with pytest.raises(Unavailable, match="start it with `crossfade serve`"):
        await asyncio.to_thread(client.status)


# --- the executable --------------------------------------------------------------------------


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str


async def crossfade(*arguments: str, cwd: Path | None = None, **environment: str) -> Ran:
    """The real command, in a process of its own, without a terminal."""
    process = await asyncio.create_subprocess_exec(
        EXECUTABLE,
        *arguments,
        cwd=cwd,
        env={"PATH": os.environ["PATH"], **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    return Ran(process.returncode or 0, out.decode(), err.decode())


async def test_a_migration_from_the_terminal(control: Control) -> None:
    here = control.config.parent  # ./crossfade.yaml says where the proxy is
    refused = await crossfade("weight", "docs", "25", cwd=here)
    assert (refused.code, refused.out) == (1, "")
    assert refused.err == "crossfade: the route `docs` is direct: nothing is read; run `crossfade backfill docs`\n"

    mirrored = await crossfade("mirror", "docs", cwd=here)
    assert mirrored.code == 0
    assert "next: crossfade backfill docs" in mirrored.out

    differing = await crossfade("verify", "docs", cwd=here)
    assert differing.code == 1
    assert "100 points differ; crossfade verify docs --repair" in differing.out

    copied = await crossfade("backfill", "docs", cwd=here)
    assert copied.code == 0, copied.err
    assert "backfill of docs is done: 100 copied\n" in copied.out
    assert "next: crossfade verify docs" in copied.out

    equal = await crossfade("verify", "docs", cwd=here)
    assert equal.code == 0
    assert "the stores are equal" in equal.out

    moved = await crossfade("weight", "docs", "25", cwd=here)
    assert moved.code == 0
    assert "docs: 25 % of the reads go to new" in moved.out
    assert "the file says 0 %" in moved.out

    listed = await crossfade("jobs", cwd=here)
    assert [line.split()[:3] for line in listed.out.splitlines()[2:]] == [
        ["verify-3", "docs", "done"],
        ["backfill-2", "docs", "done"],
        ["verify-1", "docs", "done"],
    ]


async def test_status_for_people_and_for_scripts(control: Control) -> None:
    control.operations.docs.weight = msgspec.structs.replace(control.operations.docs.weight, override=5)
    shown = await crossfade("status", "-c", str(control.config))
    assert shown.code == 0, shown.err
    assert shown.out.startswith("crossfade 0.1.0, ready, up ")
    lines = [line.split() for line in shown.out.splitlines()]
    assert ["new", "memory", "down", "refused", "the", "connection"] in lines
    (route,) = [line for line in shown.out.splitlines() if line.startswith("docs ")]
    assert "source (old)" in route
    assert "5 % (file: 0 %)" in route
    assert "100 dirty" in route
    assert "\x1b" not in shown.out, "no colours in a pipe"

    scripted = await crossfade("status", "--json", "-c", str(control.config))
    assert json.loads(scripted.out)["routes"][0]["keys"]["dirty"] == 100


async def test_weight_write_edits_the_file_and_nothing_else(control: Control) -> None:
    await control.call(lambda client: client.mirror("docs"))
    before = control.config.read_text()
    written = await crossfade("weight", "docs", "25", "--write", CROSSFADE_CONFIG=str(control.config))
    assert written.code == 0, written.err
    assert control.config.read_text() == before.replace("weight: 0  # not yet", "weight: 25  # not yet")
    reloaded = await crossfade("reload", CROSSFADE_CONFIG=str(control.config))
    assert reloaded.out == "routes[0].reads.weight: 0 -> 25\n"


async def test_a_job_started_and_left_is_steered_by_its_id(control: Control) -> None:
    control.operations.hold_pages.clear()
    where = ("--control", control.url, "--token", TOKEN)
    await crossfade("mirror", "docs", *where)
    started = await crossfade("backfill", "docs", "--no-wait", *where)
    assert "is running: job backfill-1" in started.out
    assert (await crossfade("job", "backfill-1", "pause", *where)).out == "backfill-1 is paused\n"
    assert (await crossfade("job", "backfill-1", "cancel", *where)).out == "backfill-1 is cancelled\n"
    again = await crossfade("job", "backfill-1", "resume", *where)
    assert (again.code, again.err) == (1, "crossfade: the job `backfill-1` is cancelled already\n")
    unknown = await crossfade("job", "backfill-9", "pause", *where)
    assert unknown.err == "crossfade: there is no job `backfill-9`; known: backfill-1\n"


async def test_a_job_that_is_cancelled_while_waited_for_fails(control: Control) -> None:
    control.operations.hold_pages.clear()
    await control.call(lambda client: client.mirror("docs"))
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(crossfade("backfill", "docs", "-c", str(control.config)))
        await control.operations.page_reached.wait()
        await control.operations.act_on_job("backfill-1", "cancel")
    ran = waiting.result()
    assert ran.code == 1
    assert "the job backfill-1 is cancelled" in ran.err


async def test_a_backfill_that_runs_is_followed_or_begun_again(control: Control) -> None:
    control.operations.hold_pages.clear()
    await control.call(lambda client: client.mirror("docs"))
    where = ("-c", str(control.config))
    first = await crossfade("backfill", "docs", "--no-wait", *where)
    again = await crossfade("backfill", "docs", "--no-wait", *where)
    assert first.out == again.out == "backfill of docs is running: job backfill-1; see `crossfade jobs`\n"
    anew = await crossfade("backfill", "docs", "--restart", "--no-wait", *where)
    assert "job backfill-2" in anew.out
    assert (await control.operations.job("backfill-1")).status == "cancelled"


async def test_parked_and_shadow_show_what_is_kept(control: Control) -> None:
    docs = control.operations.docs
    where = ("-c", str(control.config))
    assert (await crossfade("parked", "docs", *where)).out == "no point of docs is parked\n"
    assert "set `shadow.sample_percent`" in (await crossfade("shadow", "docs", *where)).out

    docs.parked[7] = "x" * 2048
    parked = await crossfade("parked", "docs", *where)
    assert parked.out.splitlines()[1].split() == ["docs", "7", "text", "too", "long", "2.0", "KiB"]

    docs.disagreements.append(
        Disagreement(collection="docs", operation="search", limit=10, overlap=0.7, missing=(1, "b", 3), at=0.0)
    )
    shadow = await crossfade("shadow", "docs", *where)
    assert shadow.out.startswith("1 compared, mean overlap 0.7000;")
    assert "1, b, 3" in shadow.out
    as_json = await crossfade("shadow", "docs", "--json", *where)
    assert json.loads(as_json.out)["worst"][0]["missing"] == [1, "b", 3]


async def test_the_token_file_of_the_data_dir_is_found(control: Control, tmp_path: Path) -> None:
    text = control.config.read_text()
    control.config.write_text(text.replace(f", token: {TOKEN}", "").replace("old: {kind: memory}", "old: ${UNSET}"))
    missing = await crossfade("jobs", "-c", str(control.config))
    assert missing.code == 1
    assert "is `crossfade serve` running with this configuration?" in missing.err
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "control.token").write_text(TOKEN + "\n")
    found = await crossfade("jobs", "-c", str(control.config))
    assert (found.code, found.out) == (0, "no jobs yet; start one with `crossfade backfill ROUTE`\n")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("weight", "docs"), 2, "give either PERCENT"),
        (("weight", "docs", "25", "--clear"), 2, "give either PERCENT"),
        (("weight", "docs", "101"), 2, "0<=x<=100"),
        (("job", "1", "explode"), 2, "pause"),
        (("nonsense",), 2, "No such command"),
        (("status", "-c", "missing.yaml"), 1, "crossfade init"),
        (("status", "--token", "wrong"), 1, "control token"),
        (("mirror", "dox"), 1, "known: docs"),
    ],
)
async def test_wrong_usage_and_refusals_are_told_apart(
    control: Control, arguments: tuple[str, ...], code: int, message: str
) -> None:
    ran = await crossfade(*arguments, cwd=control.config.parent)
    assert ran.code == code
    assert message in ran.err
    assert "Traceback" not in ran.err


async def test_check_lists_every_mistake(control: Control) -> None:
    good = await crossfade("check", "-c", str(control.config))
    assert (good.code, good.out) == (0, f"{control.config} is valid; routes: docs\n")
    control.config.write_text(
        control.config.read_text().replace("weight: 0", "weight: 125").replace("old: {", "odl: {")
    )
    bad = await crossfade("check", "-c", str(control.config))
    assert bad.code == 1
    assert bad.err.splitlines() == [
        f"crossfade: {control.config} is not valid:",
        '  line 12: routes[0].source: "old" is not a store; there are: odl, new',
        "  line 15: routes[0].reads.weight: 125 is not between 0 and 100",
    ]


async def test_schema_and_version() -> None:
    schema = await crossfade("schema")
    assert json.loads(schema.out)["title"] == "Config"
    assert (await crossfade("version")).out.startswith("crossfade 0.")


async def test_the_container_s_health_check_sees_whether_the_proxy_lives(control: Control) -> None:
    dockerfile = (Path(__file__).parents[2] / "Dockerfile").read_text().replace("\\\n", " ")
    (command,) = [line for line in dockerfile.splitlines() if line.startswith("HEALTHCHECK")]
    _, flag, code = json.loads(command.partition("CMD ")[2])
    code = code.replace("http://127.0.0.1:7700", control.url)
    for ending in ("", "-nothing"):
        process = await asyncio.create_subprocess_exec(
            sys.executable, flag, code.replace("/livez", f"/livez{ending}"), stderr=asyncio.subprocess.DEVNULL
        )
        assert (await process.wait() == 0) is (ending == "")


async def on_a_terminal(*arguments: str) -> str:
    """What the command writes to a terminal of its own, escape sequences included."""
    ours, its = os.openpty()
    process = await asyncio.create_subprocess_exec(
        EXECUTABLE, *arguments, env={"PATH": os.environ["PATH"], "TERM": "xterm"}, stdin=its, stdout=its, stderr=its
    )
    os.close(its)

    def read_all() -> bytes:
        written = b""
        with contextlib.suppress(OSError):  # how Linux says that the other end is closed
            while part := os.read(ours, 65536):
                written += part
        return written

    written = await asyncio.to_thread(read_all)
    await process.wait()
    os.close(ours)
    return written.decode()


async def test_on_a_terminal_there_are_colours_and_a_bar(control: Control) -> None:
    where = ("-c", str(control.config))
    assert "\x1b[" in await on_a_terminal("status", *where)
    control.operations.hold_pages.clear()
    await control.call(lambda client: client.mirror("docs"))
    async with asyncio.TaskGroup() as group:
        shown = group.create_task(on_a_terminal("backfill", "docs", *where))
        await control.operations.page_reached.wait()
        await control.operations.act_on_job("backfill-1", "pause")
        await control.operations.asked_for("backfill-1")
        await control.operations.act_on_job("backfill-1", "resume")
        control.operations.hold_pages.set()
    assert "━" in shown.result()
    assert "backfill of docs is done: 100 copied" in shown.result()
