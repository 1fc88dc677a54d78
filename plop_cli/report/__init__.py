"""Runs as one HTML page: its story, its charts, its figures."""
