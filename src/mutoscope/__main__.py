"""`python -m mutoscope` is the command, also where no script was installed."""

from mutoscope.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
