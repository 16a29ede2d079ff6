"""`python -m softras` is the command `softras`."""

import sys

from .cli import main

sys.exit(main())
