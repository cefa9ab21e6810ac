"""avsl shows which thing in a picture makes the sound you hear.

`avsl.engines` opens engines and localizes, `avsl.realtime` annotates films and runs live,
`avsl.train` makes engines; each says at its top what it offers.
"""

from importlib.metadata import version

__version__ = version("avsl")
