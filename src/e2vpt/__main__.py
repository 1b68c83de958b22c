"""`python -m e2vpt` is the command `e2vpt`."""

from e2vpt.cli.app import main

if __name__ == "__main__":
    main()
