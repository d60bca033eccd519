"""``python -m pinghub``: the same as the ``pinghub`` command."""

from pinghub.cli import main

if __name__ == "__main__":
    main()
