"""What the gateway does with events: it folds them into what readers see."""
