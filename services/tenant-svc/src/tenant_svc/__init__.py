"""Tenants, members and their sign-in."""
