"""Runs side by side: what differs by more than chance, and what that means."""
