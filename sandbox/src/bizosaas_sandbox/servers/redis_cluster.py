"""A Redis Cluster on one machine: three masters, each with a replica, as six processes."""

import shutil
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from bizosaas_sandbox.servers.base import Say, ServerError, silent
from bizosaas_sandbox.servers.children import PORT_TAKEN, free_ports
from bizosaas_sandbox.servers.redis import Redis

MASTERS = 3
SLOTS = 16384
READY_SECONDS = 30
_NODE_FILE = "nodes.conf"


class ClusterNode(Redis):
    """One process of a cluster. The first time it starts it knows the others already, so nobody has to introduce them."""

    name = "Redis node"

    def __init__(
        self, data: Path, *, port: int, cluster_port: int, known: list[str], timeout_ms: int, say: Say
    ) -> None:
        self.cluster_port = cluster_port
        self._known = known
        super().__init__(
            data, port=port, say=say,
            settings={
                "cluster-enabled": "yes",
                "cluster-config-file": _NODE_FILE,
                "cluster-node-timeout": str(timeout_ms),
                "cluster-port": str(cluster_port),
                "repl-diskless-sync-delay": "0",  # or a replica would wait five seconds for others to come
            },
        )  # fmt: skip

    def prepare(self) -> None:
        file = self.data / _NODE_FILE
        if not file.exists():
            file.write_text("\n".join([*self._known, "vars currentEpoch 6 lastVoteEpoch 0", ""]))

    @property
    def is_master(self) -> bool:
        return bool(self.running and "role:master" in (self.ask("INFO replication") or ""))

    def owns(self, slot: int) -> bool:
        """Whether it says so itself."""
        for line in (self.ask("CLUSTER NODES") or "").splitlines():
            _, _, flags, *rest = line.split()
            if "myself" in flags:
                ranges = [tuple(map(int, f"{r}-{r}".split("-")[:2])) for r in rest[5:] if not r.startswith("[")]
                return any(first <= slot <= last for first, last in ranges)
        return False

    @property
    def settled(self) -> bool:
        """Whether it takes part in a working cluster, a replica with its master's data."""
        link = self.ask("INFO replication") or ""
        state = self.ask("CLUSTER INFO") or ""
        return "cluster_state:ok" in state and ("role:master" in link or "master_link_status:up" in link)


class RedisCluster:
    """Six processes on free ports: `nodes`, the first three of them masters at first.

    `node_timeout_ms`: how long a node may be silent before the others replace it; a busy machine is silent, too.
    `start` returns when all is settled, and starts what was killed. `url` is the last node's: a replica's, so that
    a test that kills masters can name it to new clients.
    """

    name = "Redis Cluster"

    def __init__(self, data: Path, *, node_timeout_ms: int = 5000, say: Say = silent) -> None:
        self.data = data.absolute()
        self._node_timeout_ms = node_timeout_ms
        self._say = say
        self._started = False
        self.nodes = self._lay_out()

    def _lay_out(self) -> list[ClusterNode]:
        """Six nodes on ports that are free now, each knowing all of them."""
        count = 2 * MASTERS
        free = free_ports(2 * count)
        ids = [f"{n:040x}" for n in range(1, count + 1)]
        lines = []
        for n, id in enumerate(ids):
            where = f"{id} 127.0.0.1:{free[2 * n]}@{free[2 * n + 1]}"
            if n < MASTERS:
                slots = f"{n * SLOTS // MASTERS}-{(n + 1) * SLOTS // MASTERS - 1}"
                lines.append(f"{where} master - 0 0 {n + 1} connected {slots}")
            else:
                lines.append(f"{where} slave {ids[n - MASTERS]} 0 0 {n - MASTERS + 1} connected")
        return [
            ClusterNode(
                self.data / f"node-{n}", port=free[2 * n], cluster_port=free[2 * n + 1],
                known=[*lines[:n], _myself(lines[n]), *lines[n + 1 :]], timeout_ms=self._node_timeout_ms, say=self._say,
            )
            for n in range(count)
        ]  # fmt: skip

    @property
    def version(self) -> str:
        return self.nodes[0].version

    @property
    def source(self) -> str:
        return self.nodes[0].source

    @property
    def port(self) -> int:
        return self.nodes[-1].port

    @property
    def url(self) -> str:
        return f"{self.nodes[-1].url}?cluster=true"

    def masters(self) -> list[ClusterNode]:
        """Who is a master now."""
        return [node for node in self.nodes if node.is_master]

    def master_of(self, key: str) -> ClusterNode:
        """Who holds a key now."""
        slot = int((self.nodes[-1].ask(f"CLUSTER KEYSLOT {key}") or "").removeprefix(":"))
        return next(node for node in self.masters() if node.owns(slot))

    def replica_of(self, master: ClusterNode) -> ClusterNode:
        """Who would take over from it."""
        return next(n for n in self.nodes if f"master_port:{master.port}\r" in (n.ask("INFO replication") or ""))

    def start(self) -> Self:
        for attempt in range(3):
            try:
                for node in self.nodes:
                    node.start()
                self.settle()
                break
            except BaseException as error:
                self.stop()
                # Between choosing a free port and listening on it another program may have taken it.
                taken = isinstance(error, ServerError) and any(p in error.log_tail.lower() for p in PORT_TAKEN)
                if self._started or not taken or attempt == 2:
                    raise
                shutil.rmtree(self.data)
                self.nodes = self._lay_out()
        self._started = True
        return self

    def settle(self) -> None:
        """Wait until every slot has a master and every replica its master's data; ServerError when that takes too long."""
        end = time.monotonic() + READY_SECONDS
        while not all(node.settled for node in self.nodes if node.running):
            if time.monotonic() > end:
                raise ServerError(
                    self.name, f"not settled within {READY_SECONDS} s", self.nodes[0].ask("CLUSTER NODES") or ""
                )
            time.sleep(0.05)

    def stop(self) -> None:
        for node in self.nodes:
            node.kill()  # what they know together is not worth waiting for

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _myself(line: str) -> str:
    return line.replace(" master ", " myself,master ").replace(" slave ", " myself,slave ")
