class Overlay:
    def __init__(self, thresholds): pass
    def draw(self, picture, localization): pass
