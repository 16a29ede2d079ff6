"""What the tests of vertices and cameras that parameters move ask for."""

from shared_fixtures import cow, data
