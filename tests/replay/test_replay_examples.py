"""Are the examples in the docstrings of replay true?"""

import doctest

import pytest

from pipeline.replay import baselines, report, score


@pytest.mark.parametrize("module", [baselines, report, score])
def test_examples(module: object) -> None:
    failed, tried = doctest.testmod(module)  # type: ignore[arg-type]
    assert (failed, tried > 0) == (0, True)
