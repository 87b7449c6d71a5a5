"""`python -m companion …`: the commands. It knows nothing else."""

from companion.cli import leave, main

if __name__ == "__main__":
    leave(main())
