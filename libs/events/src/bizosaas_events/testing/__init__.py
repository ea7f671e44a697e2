"""For tests of whoever builds on this kit: given/when/then, and the suites every backend passes."""
