"""A stream that flows is told from one that rests."""

from replicator.postgres.flow import Flow


def test_a_stream_flows_while_much_comes() -> None:
    """Many messages a second make it flow, whatever the looks' distance; one empty look doesn't end it, few do."""
    flow, said = Flow(), []
    for count, now in [(4, 100.0), (256, 100.01), (256, 100.021), (9, 100.024), (0, 100.027), (256, 100.03)]:
        flow.saw(count, now)
        said.append(flow.flowing)

    assert [False, False, True, True, True, True] == said
    flow.saw(300, 100.05)
    flow.saw(5, 100.08)
    assert not flow.flowing


def test_a_moderate_load_never_flows() -> None:
    """500 transactions a second of a few messages each are read as they come."""
    flow = Flow()
    for number in range(1, 2000):
        flow.saw(4, 100 + number * 0.002)
        assert not flow.flowing
