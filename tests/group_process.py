"""One process of a group, driven over its standard input: `python -m tests.group_process DSN`; to be frozen and woken.

    lane N    begin a transaction of partition P0 that inserts account N, answer "open"; end it at the next line
    job N     the same as a job of the leader
    lead      lead; answer "leads"

A line ends with the kind of its error, or "done".
"""

import asyncio
import sys
from contextlib import AbstractAsyncContextManager

from replicator.errors import ReplicatorError
from replicator.ports import TargetTransaction
from replicator.tables import TableName
from replicator.writes import WriteAction
from tests.conformance.group_contract import P0, moved
from tests.fix_group import GroupMember
from tests.fix_target import account, write


async def main(dsn: str) -> None:
    """Until the input ends."""
    member = GroupMember(dsn, "forward")
    await member.target.take_over(1)
    (offset,) = (await member.ledger.take_over([P0])).values()
    if offset is None:
        (offset,) = (await member.ledger.begin({P0: 0})).values()
    tell("ready")
    while line := await heard():
        try:
            await obey(member, *line.split())
        except ReplicatorError as error:
            tell(error.kind)
        else:
            tell("done")
    await member.close()


async def obey(member: GroupMember, command: str, number: str = "") -> None:
    """Carry out one line."""
    if command == "lead":
        await member.target.lead()
        tell("leads")
        return
    transaction: AbstractAsyncContextManager[TargetTransaction]
    transaction = member.target.transaction(0) if command == "lane" else member.target.job("copy")
    accounts = (await member.target.catalog()).tables[TableName("crm", "accounts")]
    async with transaction as tx:
        await tx.write(write(accounts, WriteAction.INSERT, account(int(number))))
        tell("open")
        await heard()
        if command == "lane":
            await tx.checkpoint(moved((P0, int(number))), None)


async def heard() -> str:
    """The next line."""
    return await asyncio.to_thread(sys.stdin.readline)


def tell(answer: str) -> None:
    """One line."""
    sys.stdout.write(f"{answer}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
