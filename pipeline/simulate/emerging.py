"""What if an attack comes that nobody has seen? A fifteenth variant, outside the design's fourteen, that begins on a day of its own.

No weight, rule or feature was chosen with it in mind: it is there to see whether a detector that learns finds what one that does not
learn misses.
"""

from pipeline.simulate.attacker import Attacker
from pipeline.simulate.scene import Scene

STORY = "V15"
SHARE = 0.5  # attacks of this kind for each of the others, once it has begun


def v15(scene: Scene, attacker: Attacker, at: int) -> None:
    """Malware on the customer's phone forwards the code, and the operator's panel pastes it within seconds (domain.md, T6). No call.

    The operator sits behind a residential address in the customer's country, and mostly waits for days before taking anything.
    """
    actor = attacker.actor(kind="residential")
    code = attacker.triggers(at, actor)
    if not attacker.convinces:  # the malware is on another phone, or was removed
        return
    entered = code.delivered_at + scene.seconds(0.5, 3)
    if scene.enter(code, entered, actor, "pasted"):
        code.label = "takeover"
        if scene.chance(0.2):
            attacker.plunders(entered, code.session_id)
