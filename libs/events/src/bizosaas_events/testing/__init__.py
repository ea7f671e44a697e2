"""For tests of whoever builds on this kit: given/when/then, and the suites every backend passes."""

from .scenario import Given, When, given
from .waiting import until

__all__ = ["Given", "When", "given", "until"]
