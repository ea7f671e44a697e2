"""The command `bizos`: run the platform on one machine, play its main job, look inside."""
