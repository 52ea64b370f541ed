"""`python -m agentloop`."""

import os
import sys

if not sys.flags.safe_path and sys.path and os.path.realpath(sys.path[0] or ".") == os.getcwd():
    del sys.path[0]  # `python -m` looks into the current folder first: a json.py there must not be taken for the real one

from agentloop.cli import main

main()
