"""bench/load/wrk.py: what wrk 4.1.0 printed, and what is read out of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bench.load.wrk import Report, WrkError, command, parse, write_script

GOOD = """\
Running 1s test @ http://127.0.0.1:29655/collections/x/points/query
  1 threads and 256 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     5.08ms    2.45ms  18.16ms   72.73%
    Req/Sec    44.60k     9.18k   59.41k    70.00%
  Latency Distribution
     50%    4.56ms
     75%    6.40ms
     90%    8.32ms
     99%   13.06ms
  44448 requests in 1.03s, 87.19MB read
Requests/sec:  43280.34
Transfer/sec:     84.90MB
"""
SLOW = """\
Running 3s test @ http://127.0.0.1:29112/
  1 threads and 8 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency   288.70ms  474.14ms   1.50s    82.22%
    Req/Sec   431.50    535.28   810.00    100.00%
  Latency Distribution
     50%    1.25ms
     75%  449.08ms
     90%    1.20s_
     99%    1.50s_
  161 requests in 3.01s, 6.29KB read
  Socket errors: connect 0, read 1, write 0, timeout 0
  Non-2xx or 3xx responses: 3
Requests/sec:     53.54
Transfer/sec:      2.09KB
""".replace("_", " ")
FAST = GOOD.replace("    4.56ms", "  116.00us")


def test_a_report_is_read() -> None:
    assert parse(GOOD) == Report(requests=44448, seconds=1.03, p50_seconds=0.00456, p99_seconds=0.01306)


def test_what_went_wrong_is_told() -> None:
    assert parse(SLOW).failure == "socket errors: connect 0, read 1, write 0, timeout 0; 3 answers were errors"


def test_times_are_read_in_their_units() -> None:
    assert parse(SLOW) == replace(parse(SLOW), requests=161, seconds=3.01, p50_seconds=0.00125, p99_seconds=1.5)
    assert parse(FAST).p50_seconds == pytest.approx(116e-6)


@pytest.mark.parametrize(
    "printed",
    [
        "",
        "unable to connect to 127.0.0.1:1 Connection refused\n",
        GOOD.replace("     99%   13.06ms\n", ""),
        GOOD.replace("  44448 requests in 1.03s, 87.19MB read\n", ""),
    ],
)
def test_what_is_no_report_is_refused(printed: str) -> None:
    with pytest.raises(WrkError, match="no report"):
        parse(printed)


def test_the_script_posts_the_lines_of_a_file(tmp_path: Path) -> None:
    write_script(tmp_path / "search.lua", tmp_path / "bodies.jsonl")
    written = (tmp_path / "search.lua").read_text()
    assert f"io.lines([[{tmp_path}/bodies.jsonl]])" in written
    assert 'wrk.format("POST", nil, fields, body)' in written


def test_a_traced_script_gives_each_request_a_number_of_its_own(tmp_path: Path) -> None:
    write_script(tmp_path / "search.lua", tmp_path / "bodies.jsonl", traced=True)
    written = (tmp_path / "search.lua").read_text()
    assert f"io.lines([[{tmp_path}/bodies.jsonl]])" in written
    assert 'fields["traceparent"] = string.format("00-%032.0f-%016.0f-01", number, number)' in written


def test_one_thread_and_latencies_are_asked_for() -> None:
    told = command("http://127.0.0.1:1/x", Path("search.lua"), connections=64, seconds=3)
    assert told[0] == "wrk"
    assert told[-1] == "http://127.0.0.1:1/x"
    assert " ".join(told[1:-1]) == (
        "--threads 1 --connections 64 --duration 3s --latency --timeout 30s --script search.lua"
    )
