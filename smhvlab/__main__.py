"""``python -m smhvlab``: the command, also where the scripts folder is not on the PATH."""

import sys

from smhvlab.cli.main import main

sys.exit(main())
