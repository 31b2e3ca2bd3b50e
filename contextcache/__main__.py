"""`python -m contextcache` is the command `contextcache`."""

import sys

from contextcache.cli import main

sys.exit(main())
