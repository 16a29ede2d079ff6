"""What the tests of other programs' cameras ask for."""

from shared_fixtures import data
