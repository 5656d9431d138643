"""The application of the demo: several sessions that write to the old database until they are told to stop."""

import threading
import time
from collections import Counter
from random import Random
from types import TracebackType
from typing import Self

import psycopg
from psycopg import errors

from replicator.demo.operations import OPERATIONS, Client

ROLLED_BACK = 0.04
"""How many transactions the application gives up at their end."""

# What an application must expect of a database with other users: the transaction is undone, life goes on.
_REFUSED = (errors.DeadlockDetected, errors.UniqueViolation, errors.ForeignKeyViolation, errors.NotNullViolation)


class Writer:
    """Writes from `start` to `stop`, in threads, at a steady pace where the machine can keep it.

    Args:
        dsn: the old database.
        sessions: how many write at once.
        transactions_per_second: of all sessions together.
        seed: makes the choices repeatable; their interleaving is not.

    Attributes:
        committed: transactions by operation's name.
        rolled_back: transactions that were given up, or refused by the server.

    """

    def __init__(self, dsn: str, *, sessions: int, transactions_per_second: float, seed: int = 1) -> None:
        self.committed: Counter[str] = Counter()
        self.rolled_back = 0
        self._dsn = dsn
        self._interval = sessions / transactions_per_second
        self._stopping = threading.Event()
        self._changed = threading.Lock()
        self._failure: BaseException | None = None
        choices = [Random(f"{seed}/{number}") for number in range(sessions)]  # noqa: S311 - a workload, no secret
        self._threads = [threading.Thread(target=self._run, args=(random,)) for random in choices]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def stop(self) -> None:
        """End after the transactions in progress; when it returns, all of them have ended."""
        self.__exit__(None, None, None)
        self.check()

    @property
    def transactions(self) -> int:
        """Committed so far."""
        return self.committed.total()

    def check(self) -> None:
        """Raise what ended a session, if anything did."""
        if self._failure is not None:
            raise self._failure

    def _run(self, random: Random) -> None:
        try:
            with psycopg.connect(self._dsn, autocommit=True, application_name="demo writer") as connection:
                self._write(Client(connection, random))
        except psycopg.Error as error:
            self._failure = error

    def _write(self, client: Client) -> None:
        operations, weights = list(OPERATIONS), list(OPERATIONS.values())
        due = time.monotonic() + client.random.random() * self._interval
        # A pace that is missed for long isn't made up for: it would only pile up.
        while not self._stopping.wait(max(0.0, due - time.monotonic())):
            due = max(due + self._interval, time.monotonic() - 1)
            (operation,) = client.random.choices(operations, weights)
            done = False
            try:
                with client.connection.transaction():
                    operation(client)
                    if client.random.random() < ROLLED_BACK:
                        raise psycopg.Rollback
                    done = True
            except _REFUSED:
                done = False
            with self._changed:
                if done:
                    self.committed[operation.__name__] += 1
                else:
                    self.rolled_back += 1
