"""A package, so that what its journeys share ends with the last of them."""
