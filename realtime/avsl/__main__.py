"""`python -m avsl` is `avsl-live`."""

from avsl.realtime.cli import main

main()
