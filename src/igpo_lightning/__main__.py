"""`python -m igpo_lightning`."""

from igpo_lightning.cli import main

if __name__ == "__main__":
    main()
