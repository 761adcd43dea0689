"""The door for a checkout: `python cli.py ls` is `kerastl ls`."""

from kerastl.cli import main

if __name__ == "__main__":
    main()
