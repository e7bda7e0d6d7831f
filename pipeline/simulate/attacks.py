"""What do attackers do: the fourteen variants, each one function with its story; most attempts come to nothing."""

from collections.abc import Callable

from pipeline.simulate.attacker import Attacker
from pipeline.simulate.scene import Scene

Attack = Callable[[Scene, Attacker, int], None]


def v1(scene: Scene, attacker: Attacker, at: int) -> None:
    """A robot calls right after the code was sent and asks the customer to key it in; the operator enters it while the call is live."""
    actor = attacker.actor()
    session = scene.login(at, actor)
    code = scene.challenge(at + scene.seconds(0.3, 2.5), session)
    picked = attacker.dials(code.dispatched_at + attacker.habits.start.ms(scene.rng))
    attacker.works_on(picked, code, actor)


ATTACKS: dict[str, Attack] = {"V1": v1}
