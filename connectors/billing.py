"""How invoices change their shape: cents become amounts of money, and every amount names its currency."""

from collections.abc import Iterator
from decimal import Decimal

from replicator import Aggregate, Row, transform

STATUS = {False: "open", True: "paid"}
PAID = {status: paid for paid, status in STATUS.items()}


@transform(
    old={"public.invoices": "id", "public.invoice_lines": "invoice_id"},
    upgraded={"billing.invoices": "id", "billing.invoice_lines": "invoice_id"},
)
def invoice(invoice: Aggregate) -> Iterator[Row]:
    """The currency stands on the invoice alone in the old database, and on every line in the upgraded one."""
    root = invoice.root
    yield (
        root.to("billing.invoices")
        .drop("total_cents", "paid")
        .rename(customer_id="party_id")
        .set(total=amount(root["total_cents"]), status=STATUS[root["paid"]])
    )
    for line in invoice["public.invoice_lines"]:
        yield (
            line.to("billing.invoice_lines")
            .drop("unit_cents")
            .set(unit_price=amount(line["unit_cents"]), currency=root["currency"])
        )


@invoice.inverse
def invoice_back(invoice: Aggregate) -> Iterator[Row]:
    """An invoice whose lines disagree about the currency has no place in the old database."""
    root = invoice.root
    lines = invoice["billing.invoice_lines"]
    if any(line["currency"] != root["currency"] for line in lines):
        raise ValueError("its lines name another currency than the invoice, and the old database has only one")
    yield (
        root.to("public.invoices")
        .drop("total", "status")
        .rename(party_id="customer_id")
        .set(total_cents=cents(root["total"]), paid=PAID[root["status"]])
    )
    for line in lines:
        yield line.to("public.invoice_lines").drop("unit_price", "currency").set(unit_cents=cents(line["unit_price"]))


def amount(cents: int) -> Decimal:
    """Whole cents as an amount: 1999 is 19.99."""
    return Decimal(cents).scaleb(-2)


def cents(amount: Decimal) -> int:
    """An amount as whole cents: 19.99 is 1999."""
    return int(amount.scaleb(2))
