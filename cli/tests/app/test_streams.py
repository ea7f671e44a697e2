"""Lag, summed up for reading."""

from bizosaas_cli.streams import by_consumer


def test_partitions_are_summed_up_by_consumer_and_log() -> None:
    def item(consumer: str, part: int, events: int, seconds: float) -> dict[str, object]:
        return {
            "consumer": consumer,
            "category": "tenant",
            "partition": part,
            "events_behind": events,
            "seconds_behind": seconds,
        }

    rows = by_consumer([item("audit", 0, 3, 1.5), item("audit", 1, 4, 0.5), item("gateway", 0, 0, 0.0)])

    assert [(r["consumer"], r["partitions"], r["events_behind"], r["seconds_behind"]) for r in rows] == [
        ("audit", 2, 7, 1.5),
        ("gateway", 1, 0, 0.0),
    ]
