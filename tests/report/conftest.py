"""What the tests of reports ask for."""

from shared_fixtures import spot
