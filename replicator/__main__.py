"""`python -m replicator`: the same as the command `replicator`, where that isn't on the PATH."""

from replicator.cli import main

if __name__ == "__main__":
    main()
