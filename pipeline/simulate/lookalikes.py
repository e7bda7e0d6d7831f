"""What looks like an attack and is none: the eighteen look-alikes, each one function with its story."""

from collections.abc import Callable, Sequence
from random import Random

from pipeline.simulate.chance import weighted
from pipeline.simulate.daily import plain_login, stranger
from pipeline.simulate.people import Customer, Trait
from pipeline.simulate.scene import Scene

Lookalike = Callable[[Scene, int], None]


def b8(scene: Scene, at: int) -> None:
    """A courier or a doctor's office happens to ring, and the customer answers, while logging in."""
    peer, _ = stranger(scene.rng, scene.customer.country)
    scene.call(at + scene.seconds(-25, 12), peer, talk_ms=scene.seconds(25, 150))
    plain_login(scene, at)


LOOKALIKES: dict[str, Lookalike] = {"B8": b8}


WEIGHTS: dict[str, float] = {"B8": 1.0}
TRAITS: dict[str, Trait] = {}


def suited(customer: Customer, rng: Random, stories: Sequence[str] | None) -> str | None:
    """Choose a story that can happen to this customer."""
    choices = [
        (s, w) for s, w in WEIGHTS.items() if (stories is None or s in stories) and (s not in TRAITS or TRAITS[s] in customer.traits)
    ]
    return weighted(rng, choices) if choices else None
