"""Values are printed exactly as a real PostgreSQL prints them."""

import random
from decimal import Decimal

from replicator.codecs.debezium import printing
from replicator.demo.servers import PostgresServer

_RANDOM = random.Random(20_260_822)


def test_moments(server18: PostgresServer) -> None:
    """Dates, times and timestamps, from 4714 BC to the year 294276, print alike."""
    days = [_RANDOM.randrange(-2_440_588, 2_145_042_905) for _ in range(3_000)]
    days += [*range(-719_900, -718_000), *range(-1_000, 1_000), -2_440_588, 2_145_042_905, 2_932_896, 2_932_897]
    shown = server18.execute(
        "SELECT ('1970-01-01'::date + v)::text FROM pg_catalog.unnest(%s::int[]) WITH ORDINALITY AS u(v, n) ORDER BY n",
        [days],
    )
    assert [one for (one,) in shown] == [printing.date_text(day).decode() for day in days]

    micros = [_RANDOM.randrange(-210_866_803_200_000_000, 9_224_318_015_999_999_999) for _ in range(3_000)]
    micros += [_RANDOM.randrange(-(10**15), 10**15) // 10**k * 10**k for k in range(9) for _ in range(200)]
    micros += [-210_866_803_200_000_000, 9_224_318_015_999_999_999, 0, -1]
    shown = server18.execute(
        """
        SELECT t::text, t::time::text, (t AT TIME ZONE 'UTC')::text
        FROM pg_catalog.unnest(%s::numeric[]) WITH ORDINALITY AS u(v, n),
        LATERAL (SELECT '1970-01-01'::timestamp
            + pg_catalog.make_interval(days => (pg_catalog.div(v, 86400000000))::int)
            + ((v - pg_catalog.div(v, 86400000000) * 86400000000)::bigint * '1 microsecond'::interval)) AS m(t)
        ORDER BY n
        """,
        [[Decimal(one) for one in micros]],
    )
    assert [tuple(row) for row in shown] == [
        (
            printing.timestamp_text(one).decode(),
            printing.time_text(one % printing.DAY_MICROS).decode(),
            printing.timestamp_text(one, "+00").decode(),
        )
        for one in micros
    ]


def test_intervals(server18: PostgresServer) -> None:
    """Intervals of any signs print alike."""
    parts = [
        tuple(_RANDOM.choice([0, 1, -1, _RANDOM.randrange(-limit, limit)]) for limit in (2**31, 2**31, 2**53))
        for _ in range(5_000)
    ]
    parts += [(0, 0, 0), (12, 1, 1_000_000), (-13, 2, 5), (11, -1, -1), (2, -3, 0)]
    shown = server18.execute(
        """
        SELECT (months * '1 month'::interval + days * '1 day'::interval + micros * '1 microsecond'::interval)::text
        FROM ROWS FROM (pg_catalog.unnest(%s::int[]), pg_catalog.unnest(%s::int[]), pg_catalog.unnest(%s::bigint[]))
            WITH ORDINALITY AS u(months, days, micros, n)
        ORDER BY n
        """,
        [list(column) for column in zip(*parts, strict=True)],
    )

    assert [one for (one,) in shown] == [printing.interval_text(*one).decode() for one in parts]


def test_numbers_money_arrays(server18: PostgresServer) -> None:
    """Numbers of any scale, money, and elements that must be quoted print alike."""
    numbers = [(_RANDOM.randrange(-(10**30), 10**30), _RANDOM.randrange(40)) for _ in range(1_000)]
    numbers += [(0, 0), (0, 3), (-1, 1000), (5, 0), (12, -2), (-7, 20), (10**5_000 + 7, 1_000)]
    shown = server18.execute(
        "SELECT t::numeric::text FROM pg_catalog.unnest(%s::text[]) WITH ORDINALITY AS u(t, n) ORDER BY n",
        [[printing.numeric_text(*one).decode() for one in numbers]],
    )
    assert [one for (one,) in shown] == [printing.numeric_text(*one).decode() for one in numbers]

    cents = [_RANDOM.randrange(-(2**63), 2**63) // 10**k for k in range(18) for _ in range(20)] + [0, -1, 99, 100, -100]
    shown = server18.execute(
        "SELECT (v * 0.01)::money::text FROM pg_catalog.unnest(%s::bigint[]) WITH ORDINALITY AS u(v, n) ORDER BY n",
        [cents],
    )
    assert [one for (one,) in shown] == [printing.money_text(one).decode() for one in cents]

    elements = [
        "",
        "null",
        "NuLl",
        "nul",
        'a"b',
        "a\\b",
        "{",
        "}",
        ",",
        " ",
        "\t",
        "\n",
        "\v",
        "\f",
        "\r",
        "a;b",
        "é\u00a0",
        None,
    ]
    ((array, one),) = server18.execute("SELECT (%s::text[])::text, (%s::text[])::text", [elements, []])
    assert array == printing.array_text([one if one is None else one.encode() for one in elements]).decode()
    assert one == printing.array_text([]).decode()
