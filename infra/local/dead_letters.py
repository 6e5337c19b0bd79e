"""The dead letters of one machine's queues."""

from collections.abc import Sequence

from infra.local.queue import LocalQueue
from mlops.dead_letters import DeadLetter, DeadLetterError


class LocalDeadLetters:
    """The dead letters in a database's queues; a :class:`~mlops.dead_letters.DeadLetters`."""

    def __init__(self, database_url: str) -> None:
        self._database_url = database_url

    def read(self) -> list[DeadLetter]:
        """All of them, the newest last."""
        queue = LocalQueue(self._database_url)
        try:
            letters = queue.dead_letters(limit=None)
        finally:
            queue.close()
        return [
            DeadLetter(
                id=str(one.id),
                function=one.function,
                body=one.body,
                receives=one.receives,
                died=one.died,
                error=one.last_error,
            )
            for one in reversed(letters)
        ]

    def replay(self, letters: Sequence[DeadLetter]) -> None:
        """Put these back into the queue, and wake the dispatcher."""
        queue = LocalQueue(self._database_url)
        try:
            revived = queue.revive([int(letter.id) for letter in letters])
        finally:
            queue.close()
        lost = sorted({letter.id for letter in letters} - {str(one) for one in revived})
        if lost:
            raise DeadLetterError(f"not among the dead letters any more: {', '.join(lost)}")
