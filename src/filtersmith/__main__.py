"""``python -m filtersmith`` is the command ``filtersmith``."""

from filtersmith.cli import main

if __name__ == "__main__":
    main()
