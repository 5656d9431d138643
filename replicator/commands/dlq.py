"""`replicator dlq`: the dead letter queue."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from replicator.commands import exits
from replicator.commands.durations import Duration
from replicator.commands.options import connector_of, file_argument, json_option, next_step, print_json
from replicator.commands.show import counted
from replicator.daemon.asking import ask_letters, dead_letters
from replicator.events import Op

if TYPE_CHECKING:
    from replicator.ports import DeadLetter

_Command = TypeVar("_Command", bound=Callable[..., Any])


def _choice(function: _Command) -> _Command:
    """Which letters are meant."""
    for decorator in (
        click.argument("ids", metavar="[ID]...", type=int, nargs=-1),
        click.option("--key", "keys", multiple=True, help="All of this key, as `dlq list` shows it; can be repeated."),
        click.option("--all", "everything", is_flag=True, help="All that wait."),
    ):
        function = decorator(function)
    return function


def _patience(function: _Command) -> _Command:
    option = click.option(
        "--timeout", "timeout_seconds", type=Duration(), default="60s", show_default=True, help="Wait so long."
    )
    return option(function)


@click.group("dlq")
def command() -> None:
    """List, show, retry or discard dead letters: changes that could not be applied, and what waits behind them.

    A change waits here where `apply.on_error` is `dlq`. Until it is retried or discarded, later changes of its key wait
    behind it, and no cutover begins.
    """


@command.command("list")
@file_argument
@json_option
def list_letters(file: Path, *, as_json: bool) -> None:
    """List what waits, the oldest first."""
    letters = asyncio.run(dead_letters(connector_of(file)))
    if as_json:
        print_json([_facts(letter) for letter in letters])
        return
    if not letters:
        click.echo("no dead letters")
        next_step(f"replicator status {file}")
        return
    for letter in letters:
        asked = f"  ({letter.request} asked for)" if letter.request else ""
        place = f"{letter.table} at {letter.position}"
        click.echo(f"{letter.id:>8}  {letter.mapping} {_key(letter)}  {letter.kind}  {place}{asked}")
        click.echo(f"          {letter.message}")
    keys = {(letter.mapping, letter.key) for letter in letters}
    click.echo(f"{counted(len(letters), 'change')} of {counted(len(keys), 'key')}")
    next_step(f"replicator dlq show {file} {letters[0].id}", "then retry or discard")


@command.command("show")
@file_argument
@_choice
@json_option
@click.pass_context
def show(
    ctx: click.Context, file: Path, *, ids: tuple[int, ...], keys: tuple[str, ...], everything: bool, as_json: bool
) -> None:
    """Show changes with the values of their rows."""
    chosen = _chosen(file, ids, keys, everything=everything)
    if as_json:
        print_json([{**_facts(letter), "before": letter.before, "after": letter.after} for letter in chosen])
        return
    for letter in chosen:
        place = f"{letter.table} at {letter.position}"
        click.echo(f"{letter.id}  {letter.mapping} {_key(letter)}: {Op(letter.op).name.lower()} of {place}")
        click.echo(f"  {letter.kind}: {letter.message}")
        for title, values in (("before", letter.before), ("after", letter.after)):
            for column, text in (values or {}).items():
                click.echo(f"  {title:<7}{column} = {'NULL' if text is None else repr(text)}")
    if chosen:
        next_step(f"replicator dlq retry {file} {chosen[0].id}", "once the cause is mended")
    ctx.exit(exits.DONE)


@command.command("retry")
@file_argument
@_choice
@_patience
@json_option
@click.pass_context
def retry(ctx: click.Context, /, file: Path, *, as_json: bool, timeout_seconds: float, **choice: Any) -> None:
    """Have the running daemon apply keys again, as the old database has them now, with all that waits of them."""
    _ask(ctx, file, "retry", timeout_seconds, as_json=as_json, **choice)


@command.command("discard")
@file_argument
@_choice
@_patience
@json_option
@click.option("--yes", is_flag=True, help="Don't ask.")
@click.pass_context
def discard(
    ctx: click.Context, /, file: Path, *, as_json: bool, timeout_seconds: float, yes: bool, **choice: Any
) -> None:
    """Have the running daemon forget keys' changes. Both sides may differ there until they change again.

    `replicator resync` brings such rows back into line.
    """
    if not yes:
        click.confirm("These changes will never reach the upgraded side. Discard them?", abort=True, err=True)
    _ask(ctx, file, "discard", timeout_seconds, as_json=as_json, **choice)


def _ask(
    ctx: click.Context,
    file: Path,
    kind: str,
    timeout_seconds: float,
    *,
    ids: tuple[int, ...],
    keys: tuple[str, ...],
    everything: bool,
    as_json: bool,
) -> None:
    chosen = _chosen(file, ids, keys, everything=everything)
    if not chosen:
        click.echo("no dead letters", err=as_json)
        ctx.exit(exits.DONE)
    answer = asyncio.run(ask_letters(connector_of(file), [one.id for one in chosen], kind, timeout_seconds))
    if as_json:
        print_json({"done": answer.done, "message": answer.message, "request": answer.request})
    else:
        click.echo(answer.message, err=not answer.done)
        next_step(f"replicator dlq list {file}")
    ctx.exit(exits.DONE if answer.done else exits.FINDINGS)


def _chosen(file: Path, ids: Sequence[int], keys: Sequence[str], *, everything: bool) -> list[DeadLetter]:
    """The letters that are meant; those that wait behind them go with them."""
    if not (ids or keys or everything):
        raise click.UsageError("say which: ID..., --key KEY, or --all")
    letters = asyncio.run(dead_letters(connector_of(file)))
    if everything:
        return letters
    missing = [f"ID {one}" for one in ids if all(letter.id != one for letter in letters)]
    missing += [f"key {key}" for key in keys if all(_key(letter) != _wrapped(key) for letter in letters)]
    if missing:
        raise click.UsageError(f"not in the dead letter queue: {', '.join(missing)}")
    wanted = {_wrapped(key) for key in keys}
    return [letter for letter in letters if letter.id in ids or _key(letter) in wanted]


def _key(letter: DeadLetter) -> str:
    return "(" + ", ".join(part.decode("utf-8", "replace") for part in letter.key) + ")"


def _wrapped(key: str) -> str:
    """`7` as `(7)`, as the list shows it."""
    return key if key.startswith("(") else f"({key})"


def _facts(letter: DeadLetter) -> dict[str, Any]:
    return {
        "id": letter.id,
        "mapping": letter.mapping,
        "key": [part.decode("utf-8", "replace") for part in letter.key],
        "table": str(letter.table),
        "op": letter.op,
        "position": letter.position,
        "kind": letter.kind,
        "message": letter.message,
        "request": letter.request,
    }
