"""`python -m dreamsim VERB`: the same as `dreamsim VERB`."""

import sys

from dreamsim.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
