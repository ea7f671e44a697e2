"""The gateway's tables: the views of every kind of object, and each tenant's feed of events."""
