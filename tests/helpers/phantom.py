"""Phantom heads that several tests look at; each is drawn once."""

from functools import cache

from ich3d.core.seeds import stream
from ich3d.phantom.bleeds import Bleed, coarse_brain, draw_bleed
from ich3d.phantom.brain import Brain
from ich3d.phantom.head import Head, draw_head


@cache
def head_and_brain(seed: int) -> tuple[Head, Brain]:
    """A head and its brain on the coarse lattice."""
    head = draw_head(stream(seed, "test head"))
    return head, coarse_brain(head)


def random_bleed(subtype: str, seed: int) -> tuple[Head, Brain, Bleed]:
    """The head of `seed`, its coarse brain, and a bleed of `subtype` in it."""
    head, brain = head_and_brain(seed)
    return head, brain, draw_bleed(head, brain, subtype, stream(seed, "test bleed", subtype))
