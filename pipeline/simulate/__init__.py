"""A seed becomes a believable log of a bank, with the truth beside it.

A *world* is made first: people, their lines and devices, what happens to them in a day, and the stories of attackers
(:mod:`attacks`) and of ordinary life that looks like one (:mod:`lookalikes`), each a function with its sentence. Then a *view*
says what the bank gets to see of that world (:mod:`views`), and :mod:`arrivals` disorders it as networks do. The same seed makes
the same world under every view.

Reading order: family, people, facts, scene, attacks, lookalikes, daily, views, arrivals, shelves, run.
"""
