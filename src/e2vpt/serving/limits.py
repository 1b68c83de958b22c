"""How much a server takes on: every bound in one place."""

from __future__ import annotations

from dataclasses import dataclass

from e2vpt.config.fields import check_count, check_number, require

_MIB = 2**20


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """Bounds of a server.

    Beside these, the library's own hold: pixels of an image, and those of all images decoded at once
    (`data.decoding.room`); bytes and header of an adapter file.

    Attributes:
        max_batch: images in one forward pass.
        max_wait: seconds that an image waits for others to join its batch.
        queue: images accepted and not yet answered; beyond them requests get 429.
        deadline: seconds from a request's head to its answer; beyond them it gets 504.
        max_images: of one request.
        max_body: bytes of one request.
        bodies: bytes of all requests held at once; beyond them requests get 429.
        max_adapter: bytes of an uploaded adapter.
        connections: open at once; beyond them requests get 503.

    Raises:
        ConfigError: a value out of range.
    """

    max_batch: int = 32
    max_wait: float = 0.005
    queue: int = 512
    deadline: float = 30.0
    max_images: int = 64
    max_body: int = 32 * _MIB
    bodies: int = 256 * _MIB
    max_adapter: int = 64 * _MIB
    connections: int = 1024

    def __post_init__(self) -> None:
        for name in ("max_batch", "queue", "max_images", "max_body", "bodies", "max_adapter", "connections"):
            check_count(name, getattr(self, name), 1)
        check_number("max_wait", self.max_wait, 0, 60)
        check_number("deadline", self.deadline, 0.001, 86400)
        for less, more in (("max_batch", "queue"), ("max_body", "bodies"), ("max_adapter", "bodies")):
            low, high = getattr(self, less), getattr(self, more)
            require(low <= high, f"{less} is {low}, more than {more}, {high}.")

    @property
    def most_images(self) -> int:
        """Of one request; more than the queue holds could never be accepted."""
        return min(self.max_images, self.queue)
