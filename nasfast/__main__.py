"""``python -m nasfast`` is the command ``nasfast``."""

from nasfast.cli.app import main

if __name__ == "__main__":
    main()
