"""One scene of stress.py for every mode; the script itself renders thousands."""

import pytest
import stress


@pytest.mark.parametrize("number", range(len(stress.MODES)), ids=list(stress.MODES))
def test_a_random_scene(number):
    assert not stress.examine(number).failures


def test_a_scene_that_found_an_error():
    """A blur whose tail counts edges further than 10,000 units away."""
    assert not stress.examine(670).failures
