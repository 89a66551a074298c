"""`python -m plaudit`."""

import sys

from plaudit.cli.main import main

sys.exit(main())
