"""Are the examples in the docstrings of wire true?"""

import doctest
from types import ModuleType

import pytest

from pipeline.wire import codec, instant, numbering, pseudonym


@pytest.mark.parametrize("module", [codec, instant, numbering, pseudonym], ids=lambda module: module.__name__)
def test_examples_are_true(module: ModuleType) -> None:
    failed, tried = doctest.testmod(module)
    assert tried > 0
    assert failed == 0
