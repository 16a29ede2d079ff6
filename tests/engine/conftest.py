"""What the tests of the command line, the server, jobs, files and nouns ask for."""

from shared_fixtures import bare_python, cube, data, setting_options, small_disk, softras, spot, square_views
