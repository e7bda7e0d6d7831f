"""Properties of wire are tested without a deadline: the first number looked up loads the numbering plans."""

from hypothesis import settings

settings.register_profile("no_deadline", deadline=None)
settings.load_profile("no_deadline")
