"""A camera and a microphone as one source."""

from __future__ import annotations

from collections.abc import Callable

from avsl.realtime.sources.camera import Camera, check_source, without_password

# isort: split
from avsl.engines.windows import Samples, SoundTimeline
from avsl.realtime.sources.frames import Frame
from avsl.realtime.sources.microphone import Microphone
from avsl.realtime.sources.source import Source


class CameraAndMicrophone(Source):
    """Two devices, each with a clock of its own that is put on the session's.

    Raises:
        UserError: `camera` can't name one.
    """

    def __init__(
        self,
        camera: str,
        microphone: str | None,
        size: tuple[int, int],
        fps: float,
        late: float,
    ) -> None:
        """`microphone` is "none" for none; sound comes `late` seconds after its picture."""
        check_source(camera)
        self.name = f"camera {without_password(camera)}"
        self._named = camera, microphone
        self._wanted = size, fps
        self._late = late
        self._camera: Camera | None = None
        self._microphone: Microphone | None = None

    def open(self) -> None:
        camera, microphone = self._named
        self._camera = Camera(camera, *self._wanted)
        if microphone != "none":
            self._microphone = Microphone(microphone)

    def start(
        self,
        zero: float,
        timeline: SoundTimeline,
        picture: Callable[[Frame], None],
        sound: Callable[[int, Samples], None],
    ) -> None:
        assert self._camera, "open comes first"
        self._camera.start(zero, picture)
        if self._microphone:
            self._microphone.start(zero, timeline, sound, self._late)

    def close(self) -> None:
        for device in (self._camera, self._microphone):
            if device:
                device.close()

    @property
    def rate(self) -> int | None:
        return self._microphone.rate if self._microphone else None

    @property
    def hears(self) -> bool:
        return self._microphone is not None and self._microphone.comes

    @property
    def taken(self) -> int:
        return self._camera.taken if self._camera else 0

    @property
    def per_second(self) -> float:
        return self._camera.rate.per_second if self._camera else 0.0

    @property
    def missing(self) -> list[str]:
        lines = []
        if self._camera and (fault := self._camera.missing):
            lines.append(f"{self.name}: {fault}")
        if self._microphone and (fault := self._microphone.missing):
            lines.append(f"microphone: {fault}")
        return lines

    @property
    def notes(self) -> list[str]:
        return ["no microphone, as asked"] if self._named[1] == "none" else []
