"""``python -m workflows.cli`` is ``nucleate``, for where the script is not on PATH."""

from workflows.cli.main import main

if __name__ == "__main__":
    main()
