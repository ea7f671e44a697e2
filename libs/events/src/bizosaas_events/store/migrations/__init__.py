"""The tables of the event store, of ordered consumers and of dead letters: one set in each service's database."""
