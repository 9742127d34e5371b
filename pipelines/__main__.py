"""`python -m concord.pipelines` is the command `concord`."""

from .cli import main

if __name__ == "__main__":
    main()
