"""`python -m runtime` is `journeyman`."""

from .cli import main

if __name__ == "__main__":
    main()
