"""How fast it is, against its floor: `python -m avsl.realtime.benchmark`."""
