"""``python -m labenv``: the command, also where the scripts folder is not on the PATH."""

import sys

from labenv.cli import main

sys.exit(main())
