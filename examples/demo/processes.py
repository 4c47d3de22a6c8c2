"""The processes of the demo, beside the target's (examples/engines.py): the source, the proxy, the application.

Each is a ChildProcess: it has a directory with a log, ends with this process whatever happens, and must be started
by the main thread (the kernel ends a child with the thread that made it).
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from examples.demo.corpus import Corpus
from examples.demo.tally import Figures
from examples.engines import ChildProcess, MilvusLite, MilvusServer, accepts, free_ports
from proxy.control.client import ControlClient
from proxy.control.commands.connection import find
from proxy.errors import CrossfadeError

_LITE_BUFFER_BYTES = 1_000_000  # about 500 points


class CommandFailed(Exception):
    """A `crossfade` command ended with an error; the message is what it said."""


def program() -> list[str]:
    """The `crossfade` command of this environment."""
    command = Path(sys.executable).with_name("crossfade")
    return [str(command)] if command.exists() else [sys.executable, "-c", "from proxy.cli import main; main()"]


class QdrantEmulator(ChildProcess):
    """`crossfade emulate qdrant`: Qdrant's own engine behind Crossfade's front. Not a Qdrant server."""

    description = "Qdrant's own engine (qdrant-edge-py) behind Crossfade's Qdrant front; not a Qdrant server"
    short_name = "Qdrant engine"
    stop_grace_seconds = 5.0

    def __init__(self, directory: Path) -> None:
        self.rest_port, self.grpc_port = free_ports(2)
        super().__init__(directory, self.rest_port)
        self.url = f"http://{self.address}"

    def command(self) -> list[str]:
        ports = ("--rest-port", str(self.rest_port), "--grpc-port", str(self.grpc_port))
        return [*program(), "emulate", "qdrant", "--path", str(self.directory / "data"), *ports]

    def answers(self) -> bool:
        return accepts(self.address) and accepts(f"127.0.0.1:{self.grpc_port}")


class Proxy(ChildProcess):
    """`crossfade serve` with a configuration file, which says where it listens."""

    stop_grace_seconds = 15.0

    def __init__(self, directory: Path, config: Path, rest_port: int, grpc_port: int) -> None:
        super().__init__(directory, rest_port)
        self.config = config
        self.url = f"http://{self.address}"
        self.grpc_port = grpc_port

    @property
    def control(self) -> ControlClient:
        """Raises ConfigError before the proxy has made its token."""
        return find(self.config, None, None)

    def command(self) -> list[str]:
        return [*program(), "serve", "-c", str(self.config)]

    def answers(self) -> bool:
        try:
            return self.control.ready() is None
        except CrossfadeError:
            return False

    def run(self, *arguments: str) -> str:
        """A `crossfade` command about this proxy, as an operator types it. Raises CommandFailed."""
        command = [*program(), *arguments, "-c", str(self.config)]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=120)
        if ended.returncode != 0:
            raise CommandFailed(f"crossfade {' '.join(arguments)}: {ended.stderr.strip() or ended.stdout.strip()}")
        return ended.stdout.strip()


class Application(ChildProcess):
    """The live application (application.py). `figures` is what it counts about itself."""

    stop_grace_seconds = 40.0  # its longest request, and some

    def __init__(self, directory: Path, corpus: Corpus, url: str, grpc_port: int) -> None:
        super().__init__(directory, grpc_port)
        self._url, self._grpc_port = url, grpc_port
        directory.mkdir(parents=True, exist_ok=True)
        corpus.save(directory)

    def command(self) -> list[str]:
        return [
            *(sys.executable, "-m", "examples.demo.application", "--corpus", str(self.directory)),
            *("--url", self._url, "--grpc-port", str(self._grpc_port), "--figures", str(self._figures)),
        ]

    def environment(self) -> dict[str, str]:
        return {"PYTHONPATH": str(Path(__file__).parents[2]), "HF_HUB_OFFLINE": "1"}

    def answers(self) -> bool:
        return self.figures().requests > 0

    def figures(self) -> Figures:
        """The latest; zeros before the first."""
        try:
            return Figures.load(self._figures)
        except FileNotFoundError:
            return Figures()

    @property
    def _figures(self) -> Path:
        return self.directory / "figures.json"


class LiteTarget(MilvusLite):
    """The default target. What was written lately is searched row by row in Python (half a second for 5,000 rows), so
    rows are moved into indexed segments early."""

    description = "Milvus Lite 3.2.2 (pure Python; far slower than a Milvus server), over gRPC"
    short_name = "Milvus Lite"

    def environment(self) -> dict[str, str]:
        return {"MILVUS_LITE_MEMTABLE_MEMORY_LIMIT_BYTES": str(_LITE_BUFFER_BYTES)}


class ServerTarget(MilvusServer):
    """The full server. Its leases outlive pauses of a busy machine."""

    description = "Milvus 2.3.5, the full server, standalone, over gRPC"
    short_name = "Milvus 2.3.5"

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, session_ttl_seconds=30)


Target = LiteTarget | ServerTarget
TARGETS: dict[str, type[LiteTarget] | type[ServerTarget]] = {"milvus-lite": LiteTarget, "milvus": ServerTarget}
