"""What the tests of meshes, images, views and rigs as files ask for."""

from shared_fixtures import cube, data, spot, square_views
