"""Rows that come and go every few milliseconds: what a comparison of two databases is most easily wrong about."""

import contextlib
import random
import threading
import time
from collections.abc import Iterator

import psycopg

from tests.fix_postgres import Database

TABLES = """
    CREATE TABLE hot (id int PRIMARY KEY, v text);
    CREATE TABLE grants (account int, what text, PRIMARY KEY (account, what));
"""
OLD = """
    CREATE TABLE boxes (id int PRIMARY KEY, label text);
    CREATE TABLE things (id int PRIMARY KEY, box int, name text);
    ALTER TABLE things REPLICA IDENTITY FULL;
    CREATE TABLE users (id int PRIMARY KEY, roles text[]);
    INSERT INTO boxes SELECT n, 'box ' || n FROM generate_series(1, 20) n;
    INSERT INTO users SELECT n, '{reader}' FROM generate_series(1, 20) n;
"""
UPGRADED = """
    CREATE TABLE boxes (id int PRIMARY KEY, label text, things int);
    CREATE TABLE full_boxes (id int PRIMARY KEY, things text[]);
    CREATE TABLE users (id int PRIMARY KEY);
    CREATE TABLE roles (user_id int, role text, PRIMARY KEY (user_id, role));
"""
TRANSFORMS = """
    from replicator import Aggregate, Row, transform

    @transform(old={"public.boxes": "id", "public.things": "box"}, upgraded="public.full_boxes")
    def box(box: Aggregate):
        things = box["public.things"]
        if things:  # a box without a thing is none
            yield Row.of("public.full_boxes", id=box.root["id"], things=[thing["name"] for thing in things])

    @transform(old="public.users", upgraded={"public.users": "id", "public.roles": "user_id"})
    def user(row: Row):
        yield Row.of("public.users", id=row["id"])
        for role in row["roles"]:
            yield Row.of("public.roles", role=role)
"""


class HotKeys:
    """One thread that inserts and deletes the same few rows, one transaction each, until stopped."""

    def __init__(self, old: Database, seed: int, *, pause: float = 0.003) -> None:
        self.transactions = 0
        self._old = old
        self._pause = pause
        self._stop = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(random.Random(seed),), daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End it; what it failed with is raised here."""
        self._stop.set()
        self._thread.join(30)
        if self._failure is not None:
            raise self._failure

    def _run(self, choose: random.Random) -> None:
        try:
            while not self._stop.is_set():
                with contextlib.suppress(psycopg.OperationalError), self._old.connect(autocommit=True) as session:
                    while not self._stop.wait(self._pause):
                        self._change(session, choose)
                        self.transactions += 1
        except BaseException as error:  # noqa: BLE001 - raised by `stop`, in the test's own thread
            self._failure = error

    def _change(self, session: psycopg.Connection[tuple[object, ...]], choose: random.Random) -> None:
        key = choose.randint(1, 4)
        deleted = session.execute("DELETE FROM hot WHERE id = %s RETURNING 1", [key]).fetchone()
        if deleted is None:
            session.execute("INSERT INTO hot VALUES (%s, %s)", [key, str(time.monotonic_ns() % 3)])
        what = choose.choice(("read", "write"))
        if session.execute("DELETE FROM grants WHERE (account, what) = (1, %s) RETURNING 1", [what]).fetchone() is None:
            session.execute("INSERT INTO grants VALUES (1, %s)", [what])
        box = choose.randint(1, 3)
        if session.execute("DELETE FROM things WHERE box = %s RETURNING 1", [box]).fetchone() is None:
            session.execute("INSERT INTO things VALUES (%s, %s, 'thing')", [box, box])
        roles = choose.choice(("{}", "{reader}", "{reader,writer}"))
        session.execute("UPDATE users SET roles = %s WHERE id = %s", [roles, choose.randint(1, 3)])


@contextlib.contextmanager
def hot_keys(old: Database, seed: int, *, pause: float = 0.003) -> Iterator[HotKeys]:
    """Come and go within the block."""
    hot = HotKeys(old, seed, pause=pause)
    hot.start()
    try:
        yield hot
    finally:
        hot.stop()
