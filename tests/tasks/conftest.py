"""What the tests of tasks ask for."""

from shared_fixtures import cube, softras, spot, square_views
