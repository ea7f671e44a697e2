"""Hypothesis' state machines for what awaits."""

import asyncio
from abc import abstractmethod
from contextlib import AsyncExitStack

from hypothesis.stateful import RuleBasedStateMachine


class AsyncMachine(RuleBasedStateMachine):
    """`begin` makes what a play needs; rules hand coroutines to `run`. Between two rules nothing moves."""

    def __init__(self) -> None:
        super().__init__()
        self._runner = asyncio.Runner()
        self.run = self._runner.run
        self._stack = AsyncExitStack()
        self.run(self.begin(self._stack))

    @abstractmethod
    async def begin(self, stack: AsyncExitStack) -> None:
        """Enter into `stack` what must be left when the play is over."""

    def teardown(self) -> None:
        try:
            self.run(self._stack.aclose())
        finally:
            self._runner.close()
