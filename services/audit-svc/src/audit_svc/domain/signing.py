"""What may be signed about the heads of the chains: nothing that contradicts what was signed before."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from bizosaas_events.heads import Chain, Vector
from bizosaas_events.heads import Head as SignedHead

from .entry import Head

Hashes = Mapping[tuple[str, int, int], bytes | None]
"""The hashes that stand at positions of chains now."""


class Judgement(NamedTuple):
    """The heads that may be signed now, and what is wrong with the others."""

    heads: list[SignedHead]
    contradictions: list[str]


def positions(vector: Vector, heads: Iterable[Head]) -> list[tuple[str, int, int]]:
    """Where hashes must be looked up for `judge`: at each signed head, and at each head of now."""
    signed = {(*chain, held.position) for chain, held in vector.heads.items()}
    return sorted(signed | {(head.category, head.partition, head.position) for head in heads})


def judge(vector: Vector, heads: Iterable[Head], stands: Hashes) -> Judgement:
    """Hold the heads of now against the entries themselves, and against what was signed.

    A chain that contradicts is left at its signed head; the others go on.
    """
    now: dict[Chain, Head] = {(head.category, head.partition): head for head in heads}
    signed: list[SignedHead] = []
    contradictions = []
    for chain in sorted(now.keys() | vector.heads.keys()):
        head, held = now.get(chain), vector.heads.get(chain)
        name = f"{chain[0]}/{chain[1]}"
        if held is not None and (stood := stands.get((*chain, held.position))) != held.hash:
            what = "is no longer there" if stood is None else "is not what was recorded"
            contradictions.append(f"{name}@{held.position} {what}: signed statement {held.number} says otherwise")
        elif head is None or stands.get((*chain, head.position)) != head.hash:
            contradictions.append(f"the head recorded beside {name} is not that of its entries")
        elif held is not None and head.position < held.position:
            contradictions.append(f"the head recorded beside {name} is before the one that was signed")
        else:
            signed.append(SignedHead(*chain, head.position, head.hash.hex()))
    return Judgement(signed, contradictions)
