"""`python -m kerastl` is the command `kerastl`."""

from kerastl.cli import main

main()
