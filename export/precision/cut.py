"""The cheapest way to give every node of a graph one of two labels: a minimum cut.

Dinic's algorithm on integers; thousands of nodes take a fraction of a second.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterable

FOREVER = 1 << 40  # a capacity that no cut pays


class Network:
    """Directed edges with capacities. ``SOURCE`` and ``SINK`` are the two labels."""

    SOURCE, SINK = "source", "sink"

    def __init__(self) -> None:
        self._index: dict[Hashable, int] = {self.SOURCE: 0, self.SINK: 1}
        self._out: list[list[int]] = [[], []]  # per node its edges; edge e ^ 1 runs the other way
        self._to: list[int] = []
        self._room: list[int] = []

    def edge(self, a: Hashable, b: Hashable, capacity: int) -> None:
        """What it costs if ``a`` is labelled SOURCE and ``b`` SINK."""
        for start, end, room in ((a, b, capacity), (b, a, 0)):
            for node in (start, end):
                if node not in self._index:
                    self._index[node] = len(self._out)
                    self._out.append([])
            self._out[self._index[start]].append(len(self._to))
            self._to.append(self._index[end])
            self._room.append(room)

    def sink_side(self, nodes: Iterable[Hashable]) -> set[Hashable]:
        """Those of the nodes that the cheapest labelling calls SINK, as few as may be."""
        while (level := self._levels())[1] >= 0:
            pending = [0] * len(self._out)
            while self._augment(level, pending):
                pass
        reach, queue = {1}, deque([1])
        while queue:
            for e in self._out[queue.popleft()]:
                before = self._to[e]
                if self._room[e ^ 1] and before not in reach:
                    reach.add(before)
                    queue.append(before)
        return {n for n in nodes if self._index.get(n, 0) in reach}

    def _levels(self) -> list[int]:
        """The distance of every node from SOURCE over edges with room; -1: out of reach."""
        level = [-1] * len(self._out)
        level[0], queue = 0, deque([0])
        while queue:
            node = queue.popleft()
            for e in self._out[node]:
                if self._room[e] and level[self._to[e]] < 0:
                    level[self._to[e]] = level[node] + 1
                    queue.append(self._to[e])
        return level

    def _augment(self, level: list[int], pending: list[int]) -> bool:
        """Send what one shortest path takes; False: there is none left."""
        path: list[int] = []
        node = 0
        while node != 1:
            if pending[node] == len(self._out[node]):  # a dead end
                if not path:
                    return False
                node = self._to[path.pop() ^ 1]
                pending[node] += 1
                continue
            e = self._out[node][pending[node]]
            if self._room[e] and level[self._to[e]] == level[node] + 1:
                path.append(e)
                node = self._to[e]
            else:
                pending[node] += 1
        flow = min(self._room[e] for e in path)
        for e in path:
            self._room[e] -= flow
            self._room[e ^ 1] += flow
        return True
