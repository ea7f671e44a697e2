"""Servers and stand-ins that let the platform run and be tested on one machine."""
