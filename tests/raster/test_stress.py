"""One scene of stress.py for every mode; the script itself renders thousands."""

import pytest
import stress


@pytest.mark.parametrize("number", range(len(stress.MODES)), ids=list(stress.MODES))
def test_a_random_scene(number):
    assert not stress.examine(number).failures
