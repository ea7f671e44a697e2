"""gateway: a log without messages of its own; what operators did about its dead letters stands in it (`operations`)."""

SERVICE = "gateway"
