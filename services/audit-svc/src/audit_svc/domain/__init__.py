"""What the journal holds, how its chains are made and checked, and how an event is told in words. Pure."""
